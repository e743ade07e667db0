//! The right answers, taken one at a time from the idle server.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use proto::client::SidecarClient;
use proto::model::GenerationRequest;
use proto::wire::generate_response::Event;

use crate::adapters::{AdapterPool, NAMES, content_of};
use crate::requests::{QUESTIONS, plain};
use crate::server::{CALL_LIMIT, Server};

/// Questions that are also asked with adapters: a short one, a longer one, one with a shared beginning.
pub const ADAPTER_QUESTIONS: [usize; 3] = [0, 3, 8];

/// The greedy answers by question and by who answers.
pub struct References {
    answers: BTreeMap<Key, String>,
}

/// The adapter and its content, or none; then the question.
type Key = (Option<(&'static str, u64)>, usize);

impl References {
    pub async fn take(server: &Server, adapters: &AdapterPool) -> anyhow::Result<Self> {
        let mut client = server.client().await?;
        let mut answers = BTreeMap::new();
        for question in 0..QUESTIONS {
            let (answer, _) = alone(&mut client, plain(question, None)).await?;
            answers.insert((None, question), answer);
        }
        let mut changed = 0;
        for name in NAMES {
            for _ in 0..2 {
                let generation = adapters.load_next(&mut client, name).await?;
                for question in ADAPTER_QUESTIONS {
                    let (answer, answered) =
                        alone(&mut client, plain(question, Some(name))).await?;
                    ensure!(answered == generation, "generation {answered} answered");
                    changed += usize::from(answer != answers[&(None, question)]);
                    let adapter = Some((name, content_of(generation)));
                    answers.insert((adapter, question), answer);
                }
            }
        }
        // Else the adapters would do nothing and mixing them up would not show.
        ensure!(changed > 0, "no adapter changes any answer");
        Ok(Self { answers })
    }

    /// The answer to `question` by generation `generation` of `adapter`, or by the model alone.
    pub fn answer(&self, adapter: Option<(&'static str, u64)>, question: usize) -> Option<&str> {
        let adapter = adapter.map(|(name, generation)| (name, content_of(generation)));
        self.answers.get(&(adapter, question)).map(String::as_str)
    }

    pub fn count(&self) -> usize {
        self.answers.len()
    }
}

/// A complete answer and the generation of the adapter that gave it.
async fn alone(
    client: &mut SidecarClient,
    request: GenerationRequest,
) -> anyhow::Result<(String, u64)> {
    let mut stream = client.generate(request, CALL_LIMIT).await?;
    let (mut text, mut generation) = (String::new(), 0);
    while let Some(event) = stream.next().await.context("take a reference")? {
        match event {
            Event::Started(started) => generation = started.adapter_generation,
            Event::Text(piece) => text.push_str(&piece),
            Event::Token(_) => {}
            Event::Finished(_) => return Ok((text, generation)),
        }
    }
    bail!("a reference answer has no end")
}
