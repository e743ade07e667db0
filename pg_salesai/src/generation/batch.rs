//! Any number of generations. A sidecar that lacks the adapter is sent it first, so that one which was restarted gets
//! what it needs from the call that needs it.

use proto::client::ClientError;
use proto::model::GenerationRequest;
use proto::wire::generate_response::Event;
use proto::wire::{FinishReason, GenerateFinished, GenerateStarted};

use super::address::Address;
use super::remembered::Remembered;
use super::streams::Streams;
use crate::adapters::registry;
use crate::error::Error;
use crate::progress;
use crate::sidecar::{self, Deadline};
use crate::usage::{self, Measure};

/// How often a call begins anew because its adapter is not there; other callers may push it out again.
pub(super) const ROUNDS_MAX: usize = 3;

/// What the model wrote, and what it cost.
#[derive(Default)]
pub struct Draft {
    pub text: String,
    pub started: GenerateStarted,
    pub finished: GenerateFinished,
    /// Whether it was written for an earlier call.
    pub is_remembered: bool,
}

impl Draft {
    /// Adds what the sidecar sends.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Started(started) => self.started = started,
            Event::Text(text) => self.text.push_str(&text),
            Event::Finished(finished) => {
                self.finished = finished;
                usage::count(Measure::Generations, 1);
                usage::count(Measure::PromptTokens, self.started.prompt_tokens);
                usage::count(Measure::CompletionTokens, self.finished.completion_tokens);
            }
            // None were asked for.
            Event::Token(_) => {}
        }
    }

    /// Whether it ends because it had the most tokens that were asked for.
    pub fn is_cut(&self) -> bool {
        self.finished.reason() == FinishReason::Length
    }
}

/// What is done when the sidecar's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// A person hears of it at once.
    Refuse,
    /// A batch waits until its deadline: its own requests may be what fills the queue.
    Wait,
}

/// A number of requests, all for the same model and adapter.
pub struct Batch<'a> {
    pub size: usize,
    /// The request at a place, made when it is sent. It says what is wanted; who calls, and the generation of the
    /// adapter, are asked of the database, anew in each round: the adapter may have been replaced meanwhile.
    pub request: &'a dyn Fn(usize) -> GenerationRequest,
    pub deadline: Deadline,
    pub overload: Overload,
}

/// Generates a whole text.
pub fn generate(request: &GenerationRequest, deadline: Deadline) -> Result<Draft, Error> {
    let batch = Batch {
        size: 1,
        request: &|_| request.clone(),
        deadline,
        overload: Overload::Refuse,
    };
    match generate_all(&batch)?.pop() {
        Some(draft) => Ok(draft?),
        None => Ok(Draft::default()),
    }
}

/// Generates a text for each request, many at a time over one connection. What may be the fault of one is its own; what
/// would fail each, such as a sidecar that is down, fails the whole.
pub fn generate_all(batch: &Batch<'_>) -> Result<Vec<Result<Draft, ClientError>>, Error> {
    let mut drafts: Vec<Option<Result<Draft, ClientError>>> = Vec::new();
    drafts.resize_with(batch.size, || None);
    if batch.size == 0 {
        return Ok(Vec::new());
    }
    let first = (batch.request)(0);
    let remembered = Remembered::of(
        &Address::of(&first)?,
        (0..batch.size).map(batch.request),
        batch.deadline,
    )?;
    if let Some(remembered) = &remembered {
        let known = remembered.drafts()?.into_iter();
        drafts = known.map(|draft| draft.map(Ok)).collect();
        progress::advance(drafts.iter().flatten().count());
    }
    let generated = generate_rest(batch, &first, drafts)?;
    if let Some(remembered) = &remembered {
        remembered.keep(generated.iter().map(|draft| draft.as_ref().ok()))?;
    }
    Ok(generated)
}

/// Generates what has no text yet.
fn generate_rest(
    batch: &Batch<'_>,
    first: &GenerationRequest,
    mut drafts: Vec<Option<Result<Draft, ClientError>>>,
) -> Result<Vec<Result<Draft, ClientError>>, Error> {
    for _ in 0..ROUNDS_MAX {
        let address = Address::of(first)?;
        let lacks_adapter = round(batch, &address, &mut drafts)?;
        match &address.adapter {
            Some(adapter) if lacks_adapter => registry::load(&adapter.name, batch.deadline)?,
            _ => {
                let drafts = drafts.into_iter();
                return Ok(drafts
                    .map(|draft| draft.unwrap_or(Err(ClientError::DeadlineExceeded)))
                    .collect());
            }
        }
    }
    let name = first.adapter.as_ref().map(|adapter| adapter.name.clone());
    Err(Error::AdapterUnsettled {
        name: name.unwrap_or_default(),
    })
}

/// Asks for what has no answer yet; true when it ended because the sidecar lacks the adapter.
fn round(
    batch: &Batch<'_>,
    address: &Address,
    drafts: &mut [Option<Result<Draft, ClientError>>],
) -> Result<bool, Error> {
    let places: Vec<usize> = (0..drafts.len())
        .filter(|&place| drafts[place].is_none())
        .collect();
    if places.is_empty() {
        return Ok(false);
    }
    let streams = Streams {
        deadline: batch.deadline,
        overload: batch.overload,
        request: &|place| address.put_on((batch.request)(place)),
        ends_all: &|error| address.lacks_adapter(error) || fails_all(error),
    };
    let answers = sidecar::call(batch.deadline, async |client| {
        Ok(streams.collect(client, &places).await)
    });
    let answers = match answers {
        // What other rounds have is kept.
        Err(Error::Sidecar(ClientError::DeadlineExceeded)) => return Ok(false),
        answers => answers?,
    };
    for (place, answer) in answers {
        match answer {
            Err(error) if address.lacks_adapter(&error) => return Ok(true),
            Err(error) if fails_all(&error) => return Err(error.into()),
            answer => drafts[place] = Some(answer),
        }
    }
    Ok(false)
}

/// Whether the next request would fail for the same reason.
fn fails_all(error: &ClientError) -> bool {
    match error {
        ClientError::ContextExceeded(_)
        | ClientError::ConstraintUnfinished(_)
        | ClientError::DeadlineExceeded
        // Of a routed model: its server may have refused this one text.
        | ClientError::InvalidRequest(_)
        | ClientError::Failed { .. } => false,
        ClientError::Unavailable { .. }
        | ClientError::Disconnected { .. }
        | ClientError::Overloaded { .. }
        | ClientError::NotFound(_)
        | ClientError::AdapterMissing { .. }
        | ClientError::AdapterBusy { .. }
        | ClientError::AdapterOutdated => true,
    }
}
