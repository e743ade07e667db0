//! Goal: answers are reproducible, end for the stated reason, and broken requests get the right code.

use proto::client::ClientError;
use proto::model::{AdapterChoice, GenerationRequest, ModelChoice, Sampling};
use proto::wire;
use proto::wire::FinishReason;
use tonic::Code;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_reproducible() {
    let Some(model) = sidecar::language_model("answers_are_reproducible") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let question = greedy("What is the capital of Germany?", 40);
    let first = sidecar.answer(question.clone()).await;
    println!("answer: {:?}", first.text);
    assert!(first.text.contains("Berlin"), "{}", first.text);
    assert_eq!(first.finished.reason(), FinishReason::End);
    assert_eq!(first.prompt_tokens, 37);
    assert_eq!(sidecar.answer(question).await.text, first.text);

    let sampled = |seed| {
        let sampling = Sampling::nucleus(1.2, 0.95, seed);
        sidecar.answer(GenerationRequest {
            sampling,
            ..greedy("Tell me a joke.", 24)
        })
    };
    let joke = sampled(1).await.text;
    assert_eq!(sampled(1).await.text, joke);
    assert_ne!(sampled(2).await.text, joke);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_end_for_the_stated_reason() {
    let Some(model) = sidecar::language_model("answers_end_for_the_stated_reason") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let question = greedy("What is the capital of Germany?", 40);
    let full = sidecar.answer(question.clone()).await.text;
    let stop = vec!["nowhere to be found".into(), "Berlin".into()];
    let stopped = sidecar
        .answer(GenerationRequest {
            stop,
            ..question.clone()
        })
        .await;
    assert_eq!(stopped.finished.reason(), FinishReason::Stop);
    assert_eq!(stopped.text, full.split("Berlin").next().unwrap());
    let cut = sidecar
        .answer(GenerationRequest {
            tokens_max: 3,
            ..question
        })
        .await;
    assert_eq!(cut.finished.reason(), FinishReason::Length);
    assert_eq!(cut.finished.completion_tokens, 3);
    assert!(full.starts_with(&cut.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_get_their_code() {
    let Some(model) = sidecar::language_model("broken_requests_get_their_code") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &["--context-tokens", "200"]).await;
    let mut client = sidecar.client().await;
    let unknown = GenerationRequest {
        model: ModelChoice::Named("gpt".into()),
        ..greedy("hi", 5)
    };
    let refused = client.generate(unknown, PATIENCE).await.err();
    assert!(matches!(refused, Some(ClientError::NotFound(text)) if text.contains("gpt")));
    let adapter = GenerationRequest {
        adapter: Some(AdapterChoice {
            name: "mine".into(),
            generation: None,
        }),
        ..greedy("hi", 5)
    };
    let refused = client.generate(adapter, PATIENCE).await.err();
    assert!(matches!(refused, Some(ClientError::AdapterMissing { name }) if name == "mine"));
    for too_long in [
        greedy("hi", 200),
        greedy(&"word ".repeat(200), 5),
        greedy("hi", u32::MAX),
    ] {
        let refused = client.generate(too_long, PATIENCE).await.err();
        assert!(
            matches!(refused, Some(ClientError::ContextExceeded(_))),
            "{refused:?}"
        );
    }

    let mut raw = sidecar.raw_client().await;
    let message = wire::Message {
        role: "user".into(),
        content: "hi".into(),
    };
    let request = wire::GenerateRequest {
        messages: vec![message],
        ..Default::default()
    };
    for (json_schema, regex, choice) in [
        ("not JSON", "", ""),
        (r#"{"type": "unknown"}"#, "", ""),
        ("", "(", ""),
        ("{}", "a", ""),
        ("", "a", "b"),
    ] {
        let constrained = wire::GenerateRequest {
            tokens_max: 4,
            json_schema: json_schema.into(),
            regex: regex.into(),
            choices: Some(choice.to_owned())
                .into_iter()
                .filter(|c| !c.is_empty())
                .collect(),
            ..request.clone()
        };
        let refused = raw.generate(constrained).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{json_schema} {regex}"
        );
    }
    let load = tokio_stream::once(wire::LoadAdapterRequest::default());
    assert_eq!(
        raw.load_adapter(load).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let unload = wire::UnloadAdapterRequest::default();
    assert_eq!(
        raw.unload_adapter(unload).await.unwrap_err().code(),
        Code::NotFound
    );
    let embed = wire::EmbedRequest {
        texts: vec!["x".into()],
        ..Default::default()
    };
    assert_eq!(raw.embed(embed).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_holds_no_texts() {
    let Some(language) = sidecar::language_model("the_log_holds_no_texts") else {
        return;
    };
    let Some(embedding) = sidecar::embedding_model("the_log_holds_no_texts") else {
        return;
    };
    const MARKER: &str = "zanzibarquux";
    let named = format!("mini={}", embedding.display());
    let arguments = ["--embedding-model", &named, "--log", "trace"];
    let sidecar = Sidecar::with_language(&language, &arguments).await;
    sidecar
        .answer(GenerationRequest {
            stop: vec![MARKER.into()],
            ..greedy(MARKER, 3)
        })
        .await;
    let mut raw = sidecar.raw_client().await;
    let texts = vec![MARKER.to_owned()];
    raw.embed(wire::EmbedRequest {
        texts: texts.clone(),
        ..Default::default()
    })
    .await
    .unwrap();
    raw.tokenize(wire::TokenizeRequest {
        texts,
        ..Default::default()
    })
    .await
    .unwrap();
    let text = MARKER.repeat(30);
    raw.chunk(wire::ChunkRequest {
        text,
        tokens_max: 8,
        ..Default::default()
    })
    .await
    .unwrap();
    let long = wire::Message {
        role: "user".into(),
        content: format!("{MARKER} ").repeat(9000),
    };
    let request = wire::GenerateRequest {
        messages: vec![long],
        ..Default::default()
    };
    assert_eq!(
        raw.generate(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let log = sidecar.log();
    assert!(log.contains("generation ended") && log.contains("embedding ended"));
    assert!(
        !log.contains(MARKER),
        "{}",
        log.lines().find(|l| l.contains(MARKER)).unwrap()
    );
    assert!(
        !log.contains("\"level\":\"ERROR\"") && !log.contains("\"level\":\"WARN\""),
        "{log}"
    );
}
