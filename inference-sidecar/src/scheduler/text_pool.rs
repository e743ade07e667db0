//! Tokenising and chunking: short CPU work, off the async threads, as many at once as cores.

use std::sync::Arc;

use tokio::sync::{Semaphore, TryAcquireError};

use crate::error::Error;
use crate::scheduler::Counters;

/// Runs text work on blocking threads; refuses when too much of it waits already.
pub struct TextPool {
    /// Places for waiting and running work.
    door: Semaphore,
    /// Places for running work.
    cores: Semaphore,
    counters: Arc<Counters>,
}

impl TextPool {
    pub fn new(counters: Arc<Counters>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let waiting_max = counters.load().waiting_max as usize;
        Self {
            door: Semaphore::new(waiting_max + cores),
            cores: Semaphore::new(cores),
            counters,
        }
    }

    /// Runs `work` and returns its result. Dropping the future drops work that has not begun.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _place = self
            .door
            .try_acquire()
            .map_err(|error| self.refuse(error))?;
        let _core = self.cores.acquire().await.map_err(|_| Error::Stopping)?;
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
