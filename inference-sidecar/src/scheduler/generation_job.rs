//! Generating text: prompt in chunks, then token by token, each step only while somebody waits.

use std::sync::Arc;
use std::time::Instant;

use proto::wire::FinishReason;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::models::{Sequence, SequentialModel};
use crate::scheduler::{Call, Counters, Job, Sampler};
use crate::text::{ChatTokenizer, TextWriter};

/// Tokens of a prompt that run as one step; between steps a cancelled request is noticed.
const PROMPT_CHUNK_TOKENS: usize = 128;
/// Events beside the text pieces: the start, the held back rest, the end or an error.
const OTHER_EVENTS_MAX: usize = 4;

/// What to generate, with every limit checked.
pub struct GenerationPlan {
    /// At least one token; together with `tokens_max` within the model's context.
    pub prompt: Vec<u32>,
    pub tokens_max: usize,
    pub sampler: Sampler,
    pub stop: Vec<String>,
    pub tokenizer: Arc<ChatTokenizer>,
}

/// What a generation sends, in this order: one `Started`, texts, one `Finished`.
#[derive(Debug)]
pub enum GenerationEvent {
    Started {
        prompt_tokens: u32,
        queue_ms: u32,
        prompt_ms: u32,
    },
    Text(String),
    Finished {
        reason: FinishReason,
        completion_tokens: u32,
        completion_ms: u32,
    },
}

/// A plan in the queue, and where its events go.
pub struct GenerationJob {
    call: Call,
    plan: GenerationPlan,
    /// Made so far.
    completion_tokens: usize,
    events: mpsc::Sender<Result<GenerationEvent, Error>>,
}

impl GenerationJob {
    pub fn new(
        call: Call,
        plan: GenerationPlan,
    ) -> (Self, mpsc::Receiver<Result<GenerationEvent, Error>>) {
        // Room for all events: a slow reader must not hold the worker.
        let (events, receiver) = mpsc::channel(plan.tokens_max + OTHER_EVENTS_MAX);
        (
            Self {
                call,
                plan,
                completion_tokens: 0,
                events,
            },
            receiver,
        )
    }

    /// Runs the plan to its end, or until the caller leaves.
    pub fn run(&mut self, model: &dyn SequentialModel, counters: &Counters) {
        let start = Instant::now();
        let result = self.generate(model, counters, start);
        tracing::info!(
            request_id = %self.call.request_id,
            model = self.call.model,
            prompt_tokens = self.plan.prompt.len(),
            completion_tokens = self.completion_tokens,
            queue_ms = (start - self.call.received).as_millis() as u64,
            run_ms = start.elapsed().as_millis() as u64,
            outcome = Error::outcome(&result),
            "generation ended"
        );
        if matches!(result, Err(Error::Cancelled | Error::DeadlineExceeded)) {
            counters.count_cancelled();
        }
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn generate(
        &mut self,
        model: &dyn SequentialModel,
        counters: &Counters,
        start: Instant,
    ) -> Result<(), Error> {
        let mut sequence = model.new_sequence()?;
        let mut logits = Vec::new();
        for chunk in self.plan.prompt.chunks(PROMPT_CHUNK_TOKENS) {
            logits = self.step(sequence.as_mut(), chunk, counters)?;
        }
        let decode_start = Instant::now();
        self.send(GenerationEvent::Started {
            prompt_tokens: self.plan.prompt.len() as u32,
            queue_ms: (start - self.call.received).as_millis() as u32,
            prompt_ms: (decode_start - start).as_millis() as u32,
        })?;

        let mut history = self.plan.prompt.clone();
        let mut writer = TextWriter::new(self.plan.tokenizer.clone(), self.plan.stop.clone());
        let reason = loop {
            let sampler = &mut self.plan.sampler;
            let token = sampler.choose(&mut logits, &history, None)?.token;
            if self.plan.tokenizer.is_end(token) {
                break FinishReason::End;
            }
            self.completion_tokens += 1;
            history.push(token);
            let text = writer.push(token);
            self.send_text(text)?;
            if writer.is_stopped() {
                break FinishReason::Stop;
            }
            if self.completion_tokens == self.plan.tokens_max {
                break FinishReason::Length;
            }
            logits = self.step(sequence.as_mut(), &[token], counters)?;
        };
        self.send_text(writer.finish())?;
        self.send(GenerationEvent::Finished {
            reason,
            completion_tokens: self.completion_tokens as u32,
            completion_ms: decode_start.elapsed().as_millis() as u32,
        })
    }

    /// One counted step of the model, unless nobody waits for it.
    fn step(
        &self,
        sequence: &mut dyn Sequence,
        tokens: &[u32],
        counters: &Counters,
    ) -> Result<Vec<f32>, Error> {
        if self.is_abandoned() {
            return Err(Error::Cancelled);
        }
        if self.call.is_expired() {
            return Err(Error::DeadlineExceeded);
        }
        // Counted as it begins, so that the count stands still once a cancel was seen.
        counters.count_step();
        sequence.append(tokens)
    }

    fn send_text(&self, text: String) -> Result<(), Error> {
        if text.is_empty() {
            Ok(())
        } else {
            self.send(GenerationEvent::Text(text))
        }
    }

    fn send(&self, event: GenerationEvent) -> Result<(), Error> {
        // The channel has room for all events, so a failure means that the receiver is gone.
        self.events
            .try_send(Ok(event))
            .map_err(|_| Error::Cancelled)
    }
}

impl Job for GenerationJob {
    fn call(&self) -> &Call {
        &self.call
    }

    fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    fn fail(&mut self, error: Error) {
        // A caller that left needs no answer.
        let _ = self.events.try_send(Err(error));
    }
}
