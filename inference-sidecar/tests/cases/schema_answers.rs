//! Goal: what the real model writes at a temperature of 1.5 obeys each of the 300 schemas, or the call
//! says that the tokens did not suffice.

use proto::client::{ClientError, SidecarClient};
use proto::model::{Constraint, GenerationRequest, Sampling};
use proto::wire::generate_response::Event;

use super::schemas::{Judge, SCHEMA_COUNT, parse, refused_count, schema};
use super::sidecar::{self, Sidecar};

/// Most tokens of an answer: enough for most schemas, too few for some on purpose.
const ANSWER_TOKENS_MAX: u32 = 80;
/// Requests that run together.
const TOGETHER: usize = 48;

#[tokio::test(flavor = "multi_thread")]
async fn a_heated_model_obeys_every_schema() {
    let Some(model) = sidecar::language_model("a_heated_model_obeys_every_schema") else {
        return;
    };
    let server = Sidecar::with_language(&model, &[]).await;
    let (mut valid, mut unfinished, mut refused) = (0, 0, 0);
    for start in (0..SCHEMA_COUNT).step_by(TOGETHER) {
        let mut answers = Vec::new();
        for index in start..SCHEMA_COUNT.min(start + TOGETHER) {
            let request = GenerationRequest {
                constraint: Some(Constraint::JsonSchema(schema(index).to_string())),
                sampling: Sampling::nucleus(1.5, 1.0, index as u64),
                ..sidecar::greedy("Invent an example.", ANSWER_TOKENS_MAX)
            };
            let client = server.client().await;
            answers.push(tokio::spawn(
                async move { (index, text(client, request).await) },
            ));
        }
        for answer in answers {
            let (index, outcome) = answer.await.unwrap();
            match outcome {
                Ok(text) => {
                    // Numbers that no 64-bit float holds are valid JSON that the judge cannot read.
                    let is_valid = parse(&text)
                        .is_none_or(|value| Judge::new(&schema(index)).error(&value).is_none());
                    assert!(is_valid, "{index}: {text}");
                    valid += 1;
                }
                Err(ClientError::ConstraintUnfinished(reason)) => {
                    assert!(reason.contains("max_tokens (80)"), "{reason}");
                    unfinished += 1;
                }
                Err(ClientError::InvalidRequest(_)) => refused += 1,
                Err(error) => panic!("{index}: {error:?}"),
            }
        }
    }
    println!("{valid} valid, {unfinished} unfinished, {refused} schemas refused");
    assert_eq!(refused, refused_count());
    assert!(valid > SCHEMA_COUNT / 2, "{valid}");
}

async fn text(
    mut client: SidecarClient,
    request: GenerationRequest,
) -> Result<String, ClientError> {
    let mut stream = client.generate(request, sidecar::PATIENCE).await?;
    let mut text = String::new();
    while let Some(event) = stream.next().await? {
        if let Event::Text(piece) = event {
            text.push_str(&piece);
        }
    }
    Ok(text)
}
