//! A generation that is read a piece at a time, while the backend does other things in between.
//!
//! Nothing runs between two reads: the sidecar's texts wait in the socket. Dropping it closes the socket, as every end
//! of a statement does, and the sidecar stops.

use proto::client::{ClientError, Generation};
use proto::model::GenerationRequest;
use proto::wire::generate_response::Event;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::call::{Deadline, connected, runtime, wait_on};
use crate::error::Error;
use crate::usage::{self, Measure};

pub struct OpenStream {
    generation: Generation,
    deadline: Deadline,
    /// Dropped after what runs on it.
    runtime: Runtime,
}

impl OpenStream {
    /// Connects and asks; cancels as [`super::call`] does.
    pub fn open(request: GenerationRequest, deadline: Deadline) -> Result<Self, Error> {
        deadline.check()?;
        let runtime = runtime()?;
        let generation = wait_on(&runtime, async {
            let mut client = connected(deadline).await?;
            usage::count(Measure::Calls, 1);
            client.generate(request, deadline.remaining()).await
        })?;
        Ok(Self {
            generation,
            deadline,
            runtime,
        })
    }

    /// The next event, or None after the last.
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        self.deadline.check()?;
        let event = timeout_of(self.deadline, &mut self.generation);
        wait_on(&self.runtime, event)
    }
}

async fn timeout_of(
    deadline: Deadline,
    generation: &mut Generation,
) -> Result<Option<Event>, ClientError> {
    match timeout(deadline.remaining(), generation.next()).await {
        Ok(event) => event,
        Err(_) => Err(ClientError::DeadlineExceeded),
    }
}
