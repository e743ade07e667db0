//! What to generate, as it waits in the queue, and what comes back.

use std::sync::Arc;

use proto::model::Caller;
use proto::wire::FinishReason;
use tokio::sync::mpsc;

use crate::adapters::LoadedAdapter;
use crate::error::Error;
use crate::scheduler::{Call, Choice, ConstraintState, Job, Sampler};
use crate::text::ChatTokenizer;

/// Events beside those of the tokens: the start, the held back rest, the end or an error.
const OTHER_EVENTS_MAX: usize = 4;
/// Events of one token: its log-probability and its text.
const TOKEN_EVENTS_MAX: usize = 2;

/// What to generate, with every limit checked.
pub struct GenerationPlan {
    /// At least one token; together with `tokens_max` within the model's context.
    pub prompt: Vec<u32>,
    pub tokens_max: usize,
    pub sampler: Sampler,
    pub sends_logprobs: bool,
    pub constraint: Option<ConstraintState>,
    pub stop: Vec<String>,
    pub tokenizer: Arc<ChatTokenizer>,
    /// Kept until the end, whatever is loaded under its name meanwhile.
    pub adapter: Option<Arc<LoadedAdapter>>,
    pub caller: Caller,
}

/// What a generation sends, in this order: one `Started`, tokens and texts, one `Finished`.
#[derive(Debug)]
pub enum GenerationEvent {
    Started {
        prompt_tokens: u32,
        cached_tokens: u32,
        queue_ms: u32,
        prompt_ms: u32,
    },
    Token(Choice),
    Text(String),
    Finished {
        reason: FinishReason,
        completion_tokens: u32,
        completion_ms: u32,
    },
}

/// A plan in the queue, and where its events go.
pub struct GenerationJob {
    pub(super) call: Call,
    pub(super) plan: GenerationPlan,
    pub(super) events: mpsc::Sender<Result<GenerationEvent, Error>>,
}

impl GenerationJob {
    pub fn new(
        call: Call,
        plan: GenerationPlan,
    ) -> (Self, mpsc::Receiver<Result<GenerationEvent, Error>>) {
        // Room for all events: a slow reader must not hold the engine.
        let room = plan.tokens_max * TOKEN_EVENTS_MAX + OTHER_EVENTS_MAX;
        let (events, receiver) = mpsc::channel(room);
        (Self { call, plan, events }, receiver)
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
