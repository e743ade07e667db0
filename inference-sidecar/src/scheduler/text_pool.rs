//! Tokenising and chunking: short CPU work, off the async threads, as many at once as cores.

use std::sync::Arc;

use tokio::sync::{Semaphore, TryAcquireError};

use crate::error::Error;
use crate::scheduler::Counters;

/// Runs text work on blocking threads; refuses when too much of it waits already.
pub struct TextPool {
    /// Places for waiting and running work.
    door: Arc<Semaphore>,
    /// Places for running work.
    cores: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl TextPool {
    pub fn new(counters: Arc<Counters>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let waiting_max = counters.load().waiting_max as usize;
        Self {
            door: Arc::new(Semaphore::new(waiting_max + cores)),
            cores: Arc::new(Semaphore::new(cores)),
            counters,
        }
    }

    /// Runs `work` and returns its result. Dropping the future drops work that has not begun.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self
            .door
            .clone()
            .try_acquire_owned()
            .map_err(|error| self.refuse(error))?;
        let core = self
            .cores
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::Stopping)?;
        let work = move || {
            // Begun work goes on when its caller leaves, so it keeps its place until it ends.
            let _held = (place, core);
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Error::WorkerPanicked)?
    }

    fn refuse(&self, error: TryAcquireError) -> Error {
        match error {
            TryAcquireError::Closed => Error::Stopping,
            TryAcquireError::NoPermits => {
                self.counters.count_refused();
                Error::QueueFull {
                    retry_after: self.counters.retry_after(),
                }
            }
        }
    }
}
