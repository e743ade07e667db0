//! What drafts (n-gram speculation) gain: the same answers with and without them, in turn.
//!
//! `drafts SIDECAR MODEL.gguf ROUNDS TEXT...` starts the binary SIDECAR twice, with `draft_tokens_max = 0`
//! and as it is configured by default, asks both in turn to copy each text and to list its facts under a
//! JSON schema, one request at a time, and prints for each task the median speed of writing and its
//! range. It fails when an answer differs.

#[path = "../soak/server.rs"]
mod server;

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use proto::model::{
    Caller, ChatMessage, Constraint, GenerationRequest, ModelChoice, Priority, Role, Sampling,
};
use proto::wire::generate_response::Event;

use server::{CALL_LIMIT, Server};

/// Characters of a text: its prompt stays below the context of the model.
const TEXT_CHARS: usize = 1200;
const SCHEMA: &str = r#"{"type":"array","minItems":3,"maxItems":3,"items":{"type":"object",
    "properties":{"sentence":{"type":"string","maxLength":120},"topic":{"type":"string","maxLength":20}},
    "required":["sentence","topic"],"additionalProperties":false}}"#;

/// A kind of question.
struct Task {
    name: &'static str,
    question: &'static str,
    constraint: Option<&'static str>,
    tokens_max: u32,
}

const TASKS: [Task; 2] = [
    Task {
        name: "copy a text",
        question: "Copy this text word by word.",
        constraint: None,
        tokens_max: 160,
    },
    Task {
        name: "facts as JSON",
        question: "List three sentences of this text as JSON.",
        constraint: Some(SCHEMA),
        tokens_max: 480,
    },
];

/// The answers to all texts, and how fast they were written.
#[derive(Default)]
struct Round {
    answers: Vec<String>,
    tokens: u32,
    milliseconds: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sidecar, model, rounds, files @ ..] = arguments.as_slice() else {
        bail!("usage: drafts SIDECAR MODEL.gguf ROUNDS TEXT...");
    };
    let rounds: usize = rounds.parse().context("ROUNDS is no number")?;
    let texts = files.iter().map(|file| {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        Ok(text.chars().take(TEXT_CHARS).collect())
    });
    let texts: Vec<String> = texts.collect::<anyhow::Result<_>>()?;
    let (sidecar, model) = (PathBuf::from(sidecar), PathBuf::from(model));
    let plain = Server::start(&sidecar, &model, "draft_tokens_max = 0\n").await?;
    let drafting = Server::start(&sidecar, &model, "").await?;
    println!(
        "| tokens/s, {} texts | without drafts | with | ratio |\n|---|---|---|---|",
        texts.len()
    );
    for task in &TASKS {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (expected, found) = (
                ask(&plain, task, &texts).await?,
                ask(&drafting, task, &texts).await?,
            );
            ensure!(
                expected.answers == found.answers,
                "drafts changed an answer: {}",
                task.name
            );
            without.push(expected.speed());
            with.push(found.speed());
        }
        let ratio = median(&mut with) / median(&mut without);
        println!(
            "| {} | {} | {} | {ratio:.2} |",
            task.name,
            spread(&without),
            spread(&with)
        );
    }
    Ok(())
}

async fn ask(server: &Server, task: &Task, texts: &[String]) -> anyhow::Result<Round> {
    let mut client = server.client().await?;
    let mut round = Round::default();
    for text in texts {
        let mut answer = String::new();
        let mut stream = client.generate(request(task, text), CALL_LIMIT).await?;
        while let Some(event) = stream.next().await? {
            match event {
                Event::Text(piece) => answer.push_str(&piece),
                Event::Finished(finished) => {
                    round.tokens += finished.completion_tokens;
                    round.milliseconds += finished.completion_ms;
                }
                Event::Started(_) | Event::Token(_) => {}
            }
        }
        round.answers.push(answer);
    }
    // The other server gets the machine for itself.
    server.wait_idle(CALL_LIMIT).await?;
    Ok(round)
}

fn request(task: &Task, text: &str) -> GenerationRequest {
    GenerationRequest {
        model: ModelChoice::Default,
        adapter: None,
        messages: vec![ChatMessage {
            role: Role::User,
            content: format!("{}\n\n{text}", task.question),
        }],
        tokens_max: task.tokens_max,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        constraint: task
            .constraint
            .map(|schema| Constraint::JsonSchema(schema.to_owned())),
        top_logprobs: 0,
        priority: Priority::Interactive,
        caller: Caller::default(),
    }
}

impl Round {
    fn speed(&self) -> f64 {
        f64::from(self.tokens) * 1000.0 / f64::from(self.milliseconds.max(1))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of sorted values.
fn spread(values: &[f64]) -> String {
    let (first, last) = (values[0], values[values.len() - 1]);
    format!("{:.1} ({first:.1} to {last:.1})", values[values.len() / 2])
}
