//! A named OS thread that owns one model and runs its jobs one after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Error;
use crate::metrics::Ending;
use crate::scheduler::{Engine, GenerationJob, Job, JobQueue};

/// The thread behind a queue; ends when the queue is closed.
pub struct Worker {
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts a thread that calls `run` for each job of `queue`.
    pub fn start<J: Job>(
        name: &str,
        queue: Arc<JobQueue<J>>,
        mut run: impl FnMut(&mut J) + Send + 'static,
    ) -> Result<Self, Error> {
        Self::spawn(name, move || {
            while let Some(mut job) = queue.pop() {
                let _running = queue.counters().run();
                queue.metrics().set_running(1);
                run_guarded(&queue, &mut job, &mut run);
                queue.metrics().set_running(0);
            }
        })
    }

    /// Starts a thread that runs `engine`. Should it panic, `queue` is closed: new requests are then
    /// refused at once instead of waiting for ever.
    pub fn start_engine(
        name: &str,
        engine: Engine,
        queue: Arc<JobQueue<GenerationJob>>,
    ) -> Result<Self, Error> {
        Self::spawn(name, move || {
            if catch_unwind(AssertUnwindSafe(|| engine.run())).is_err() {
                tracing::error!("an engine panicked; its model is out of service until a restart");
                queue.close();
            }
        })
    }

    fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<Self, Error> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|source| Error::Setup {
                part: "worker thread",
                source: source.into(),
            })?;
        Ok(Self { thread })
    }

    /// Waits for the running job to end. Its queue must be closed.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker thread panicked outside of a job");
        }
    }
}

/// Runs a job so that one bad request does not take the model away from all others. What a panic may leave half-done
/// belongs to the job, which is dropped.
pub(super) fn run_guarded<J: Job>(queue: &JobQueue<J>, job: &mut J, run: impl FnOnce(&mut J)) {
    if catch_unwind(AssertUnwindSafe(|| run(job))).is_err() {
        let latency = job.call().received.elapsed();
        queue.metrics().finished(Ending::Failed, latency);
        job.fail(Error::WorkerPanicked);
    }
}
