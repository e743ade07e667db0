//! Many streams over one connection.

use std::time::Duration;

use proto::client::{ClientError, SidecarClient};
use proto::model::GenerationRequest;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::batch::{Draft, Overload};
use crate::progress;
use crate::sidecar::Deadline;
use crate::usage::{self, Measure};

/// Requests that are with the sidecar at once: enough to fill its batch, and few beside its queue.
const STREAMS_MAX: usize = 32;
/// The whole call has the deadline too: what is done by then is to be told before it passes.
const TELLING: Duration = Duration::from_millis(20);
/// Rest before a busy sidecar is asked again, where it does not say.
const RETRY_DEFAULT_MS: u64 = 100;
const RETRY_MIN: Duration = Duration::from_millis(10);

/// An answer with the place of its request.
pub type Placed = (usize, Result<Draft, ClientError>);

/// What is done with the requests of a batch.
pub struct Streams<'a> {
    pub deadline: Deadline,
    pub overload: Overload,
    /// The request at a place, made when it is sent.
    pub request: &'a dyn Fn(usize) -> GenerationRequest,
    /// Whether an answer makes the others pointless.
    pub ends_all: &'a dyn Fn(&ClientError) -> bool,
}

impl Streams<'_> {
    /// Sends them all, at most [`STREAMS_MAX`] at a time; those that have no answer by the deadline, or when another
    /// ended all, are left out.
    pub async fn collect(&self, client: &SidecarClient, places: &[usize]) -> Vec<Placed> {
        let mut waiting = places.iter().copied();
        let mut answers = Vec::new();
        let mut streams: JoinSet<Placed> = JoinSet::new();
        loop {
            while streams.len() < STREAMS_MAX
                && let Some(place) = waiting.next()
            {
                let (request, client) = ((self.request)(place), client.clone());
                let (deadline, overload) = (self.deadline, self.overload);
                streams.spawn(
                    async move { (place, answer(client, request, deadline, overload).await) },
                );
            }
            let rest = self.deadline.remaining().saturating_sub(TELLING);
            match timeout(rest, streams.join_next()).await {
                Ok(Some(Ok((place, answer)))) => {
                    progress::advance(1);
                    let is_end = answer.as_ref().is_err_and(self.ends_all);
                    answers.push((place, answer));
                    if is_end {
                        return answers;
                    }
                }
                // One that panicked has no answer.
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return answers,
            }
        }
    }
}

async fn answer(
    mut client: SidecarClient,
    request: GenerationRequest,
    deadline: Deadline,
    overload: Overload,
) -> Result<Draft, ClientError> {
    if overload == Overload::Refuse {
        return draft(&mut client, request, deadline).await;
    }
    loop {
        match draft(&mut client, request.clone(), deadline).await {
            Err(ClientError::Overloaded { retry_after_ms }) => {
                let rest = Duration::from_millis(retry_after_ms.unwrap_or(RETRY_DEFAULT_MS));
                deadline.check()?;
                // The hint is an average: a place may be free before the time is up.
                sleep(rest.min(deadline.remaining() / 2).max(RETRY_MIN)).await;
            }
            answer => return answer,
        }
    }
}

async fn draft(
    client: &mut SidecarClient,
    request: GenerationRequest,
    deadline: Deadline,
) -> Result<Draft, ClientError> {
    usage::count(Measure::Calls, 1);
    let mut generation = client.generate(request, deadline.remaining()).await?;
    let mut draft = Draft::default();
    while let Some(event) = generation.next().await? {
        draft.take(event);
    }
    Ok(draft)
}
