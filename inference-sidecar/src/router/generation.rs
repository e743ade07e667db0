//! One routed generation: attempts until an upstream has sent its first token, then its stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use proto::model::GenerationRequest;
use proto::wire::generate_response::Event;
use tokio::time::Sleep;
use tokio_stream::Stream;

use super::dialect::Unsupported;
use super::failure::Failure;
use super::route::{Refusal, Route, Ticket, cost};
use super::upstream::{Answer, Prepared};
use crate::error::Error;

/// How long a client should wait when every upstream is full.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);

/// The events of one answer. Dropping it closes the upstream's connection, which cancels the work there.
pub struct Generation {
    /// Before `ticket`, so that the connection is closed before the place is given back.
    answer: Answer,
    ticket: Ticket,
    /// Events that came up to the first token.
    first_events: VecDeque<Event>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Runs while the next event is awaited.
    idle: Pin<Box<Sleep>>,
    is_waiting: bool,
    tokens_max: u32,
    is_complete: bool,
}

/// What the attempts so far have shown.
#[derive(Default)]
struct Attempts {
    tried: Vec<usize>,
    overloaded: Option<Failure>,
    unsupported: Option<Unsupported>,
    has_fault: bool,
}

/// Starts the answer on the best upstream, or on the next one that works.
pub(super) async fn start(
    route: &Arc<Route>,
    request: &GenerationRequest,
    deadline: Option<Instant>,
) -> Result<Generation, Error> {
    let mut attempts = Attempts::default();
    // Each turn tries another upstream or ends.
    loop {
        let ticket = match route.choose(cost(request), &attempts.tried) {
            Ok(ticket) => ticket,
            Err(refusal) => return Err(attempts.conclude(refusal, route, request.tokens_max)),
        };
        attempts.tried.push(ticket.index());
        let prepared = match ticket.upstream().prepare(&route.model, request) {
            Ok(prepared) => prepared,
            Err(unsupported) => {
                ticket.unused();
                attempts.unsupported = Some(unsupported);
                continue;
            }
        };
        match Box::pin(open(ticket, prepared, request.tokens_max, deadline)).await {
            Ok(generation) => return Ok(generation),
            Err(failure) if !failure.may_fail_over() => {
                return Err(failure.into_error(&route.model, request.tokens_max, false));
            }
            Err(failure) => attempts.note(failure),
        }
    }
}

/// One attempt, up to the first token.
async fn open(
    mut ticket: Ticket,
    prepared: Prepared,
    tokens_max: u32,
    deadline: Option<Instant>,
) -> Result<Generation, Failure> {
    let patience = ticket.upstream().patience;
    let until = Instant::now() + patience.first_token;
    let until = deadline.map_or(until, |deadline| until.min(deadline));
    let attempt = first_events(&ticket, prepared, deadline);
    let outcome = match tokio::time::timeout_at(until.into(), attempt).await {
        Ok(outcome) => outcome,
        Err(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
            Err(Failure::Deadline)
        }
        Err(_) => Err(Failure::FirstTokenTimeout),
    };
    match outcome {
        Ok((answer, first_events)) => {
            ticket.first_token();
            Ok(Generation {
                answer,
                ticket,
                first_events,
                deadline: deadline
                    .map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into()))),
                idle: Box::pin(tokio::time::sleep(patience.idle)),
                is_waiting: false,
                tokens_max,
                is_complete: false,
            })
        }
        Err(failure) => {
            note_failure(&mut ticket, &failure, "upstream failed a request");
            Err(failure)
        }
    }
}

async fn first_events(
    ticket: &Ticket,
    prepared: Prepared,
    deadline: Option<Instant>,
) -> Result<(Answer, VecDeque<Event>), Failure> {
    let upstream = ticket.upstream();
    let send = upstream.send(&ticket.route().model, prepared, deadline);
    let mut answer = Box::pin(send).await?;
    let mut events = VecDeque::new();
    loop {
        let event = std::future::poll_fn(|context| answer.poll_event(context)).await;
        let event = event.ok_or(Failure::Broken("no answer"))??;
        // A prompt that was read is no promise of a token.
        let is_token = !matches!(event, Event::Started(_));
        events.push_back(event);
        if is_token {
            return Ok((answer, events));
        }
    }
}

fn note_failure(ticket: &mut Ticket, failure: &Failure, message: &'static str) {
    let is_started = ticket.has_first_token();
    ticket.failed(failure, is_started);
    if failure.is_fault() {
        tracing::warn!(
            model = ticket.route().model,
            upstream = ticket.upstream().name,
            error = failure as &dyn std::error::Error,
            "{message}"
        );
    }
}

impl Attempts {
    fn note(&mut self, failure: Failure) {
        match failure {
            Failure::Overloaded { .. } => self.overloaded = Some(failure),
            _ => self.has_fault = true,
        }
    }

    /// What the client learns when nobody is left to ask.
    fn conclude(self, refusal: Refusal, route: &Route, tokens_max: u32) -> Error {
        let model = route.model.clone();
        // One that could not be asked might have been able to.
        let all_answered = !self.has_fault && self.tried.len() == route.upstreams.len();
        match (self.overloaded, self.unsupported) {
            (Some(overloaded), _) => overloaded.into_error(&route.model, tokens_max, false),
            (None, Some(unsupported)) if all_answered => match unsupported {
                Unsupported::Field(field) => Error::UpstreamLacks { model, field },
                Unsupported::Schema => Error::ConstraintRefused {
                    reason: "the schema is not a JSON object".into(),
                },
            },
            _ if refusal == Refusal::Full => Error::QueueFull {
                retry_after: RETRY_AFTER_FULL,
            },
            _ => Error::UpstreamUnavailable { model },
        }
    }
}

impl Generation {
    /// Name of the upstream that answers.
    pub fn upstream(&self) -> &str {
        &self.ticket.upstream().name
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Failure>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(Failure::Deadline)));
        }
        if let Some(event) = self.first_events.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        if let Poll::Ready(outcome) = self.answer.poll_event(context) {
            self.is_waiting = false;
            return Poll::Ready(outcome);
        }
        // The clock runs from here on, not while the client is busy with the last event.
        if !std::mem::replace(&mut self.is_waiting, true) {
            let until = tokio::time::Instant::now() + self.ticket.upstream().patience.idle;
            self.idle.as_mut().reset(until);
        }
        self.idle
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(Failure::Stalled)))
    }
}

impl Stream for Generation {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_complete {
            return Poll::Ready(None);
        }
        let outcome = std::task::ready!(self.poll_outcome(context));
        let outcome = outcome.unwrap_or(Err(Failure::Broken("the answer has no end")));
        Poll::Ready(Some(match outcome {
            Ok(event) => {
                if let Event::Finished(finished) = &event {
                    self.is_complete = true;
                    self.ticket.finished(finished.completion_tokens);
                }
                Ok(event)
            }
            Err(failure) => {
                self.is_complete = true;
                note_failure(&mut self.ticket, &failure, "upstream broke off an answer");
                let tokens_max = self.tokens_max;
                Err(failure.into_error(&self.ticket.route().model, tokens_max, true))
            }
        }))
    }
}
