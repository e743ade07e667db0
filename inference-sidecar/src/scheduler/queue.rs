//! A bounded queue in front of one worker or engine: interactive before background.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::model::Priority;

use crate::error::Error;
use crate::metrics::{Ending, RequestMetrics};
use crate::scheduler::counters::Waiting;
use crate::scheduler::{Call, Counters};

/// Work that can wait in a queue.
pub trait Job: Send + 'static {
    fn call(&self) -> &Call;
    /// True when nobody waits for the result any more.
    fn is_abandoned(&self) -> bool;
    /// Tells the caller, if there still is one, that the job will not be done.
    fn fail(&mut self, error: Error);
}

/// The queue of one model. The bound on waiting jobs is shared by all queues of the server.
pub struct JobQueue<J> {
    lanes: Mutex<Lanes<J>>,
    changed: Condvar,
    counters: Arc<Counters>,
    metrics: RequestMetrics,
}

struct Lanes<J> {
    interactive: VecDeque<J>,
    background: VecDeque<J>,
    is_open: bool,
}

impl<J> Lanes<J> {
    fn len(&self) -> usize {
        self.interactive.len() + self.background.len()
    }
}

impl<J: Job> JobQueue<J> {
    /// `metrics` are told of the jobs that end while they wait.
    pub fn new(counters: Arc<Counters>, metrics: RequestMetrics) -> Self {
        let lanes = Lanes {
            interactive: VecDeque::new(),
            background: VecDeque::new(),
            is_open: true,
        };
        Self {
            lanes: Mutex::new(lanes),
            changed: Condvar::new(),
            counters,
            metrics,
        }
    }

    /// Queues `job`, or says at once that there is no place.
    pub fn push(&self, job: J) -> Result<(), Error> {
        let mut lanes = self.lock();
        if !lanes.is_open {
            return Err(Error::Stopping);
        }
        // Jobs that nobody waits for must not keep others out.
        let has_place =
            self.counters.try_wait() || (self.purge(&mut lanes) && self.counters.try_wait());
        if !has_place {
            self.counters.count_refused();
            return Err(Error::QueueFull {
                retry_after: self.counters.retry_after(),
            });
        }
        match job.call().priority {
            Priority::Interactive => lanes.interactive.push_back(job),
            Priority::Background => lanes.background.push_back(job),
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next job that somebody still wants; None once the queue is closed.
    pub fn pop(&self) -> Option<J> {
        let mut lanes = self.lock();
        loop {
            if !lanes.is_open {
                return None;
            }
            let next = lanes
                .interactive
                .pop_front()
                .or_else(|| lanes.background.pop_front());
            match next {
                Some(mut job) => {
                    self.counters.stop_waiting(1);
                    self.metrics.set_waiting(lanes.len());
                    if !self.drop_unwanted(&mut job) {
                        return Some(job);
                    }
                }
                None => {
                    lanes = self
                        .changed
                        .wait(lanes)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Waits until a job is there; false once the queue is closed.
    pub fn wait(&self) -> bool {
        let mut lanes = self.lock();
        while lanes.is_open && lanes.interactive.is_empty() && lanes.background.is_empty() {
            lanes = self
                .changed
                .wait(lanes)
                .unwrap_or_else(PoisonError::into_inner);
        }
        lanes.is_open
    }

    /// Waits until an interactive job is there, for at most so long, or until the queue is closed.
    pub fn wait_for_interactive(&self, limit: Duration) {
        let has_none = |lanes: &mut Lanes<J>| lanes.is_open && lanes.interactive.is_empty();
        drop(
            self.changed
                .wait_timeout_while(self.lock(), limit, has_none),
        );
    }

    /// Takes the job of this priority that has the lowest `rank`, the first of equals; it counts as
    /// waiting until the second value is dropped.
    pub fn try_pop<K: Ord>(
        &self,
        priority: Priority,
        rank: impl Fn(&J) -> K,
    ) -> Option<(J, Waiting)> {
        let mut lanes = self.lock();
        let lane = match priority {
            Priority::Interactive => &mut lanes.interactive,
            Priority::Background => &mut lanes.background,
        };
        loop {
            let (index, _) = lane.iter().enumerate().min_by_key(|(_, job)| rank(job))?;
            let mut job = lane.remove(index)?;
            let waiting = self.counters.hold_place();
            if !self.drop_unwanted(&mut job) {
                return Some((job, waiting));
            }
        }
    }

    /// Fails what has waited past its deadline and forgets what nobody waits for.
    pub fn drop_all_unwanted(&self) {
        let mut lanes = self.lock();
        self.purge(&mut lanes);
    }

    /// Takes no more jobs and fails the waiting ones; a running one is not touched.
    pub fn close(&self) {
        let mut lanes = self.lock();
        lanes.is_open = false;
        let Lanes {
            interactive,
            background,
            ..
        } = &mut *lanes;
        self.counters
            .stop_waiting(interactive.len() + background.len());
        for mut job in interactive.drain(..).chain(background.drain(..)) {
            let latency = job.call().received.elapsed();
            self.metrics.finished(Ending::Failed, latency);
            job.fail(Error::Stopping);
        }
        self.metrics.set_waiting(0);
        self.changed.notify_all();
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub fn metrics(&self) -> &RequestMetrics {
        &self.metrics
    }

    /// Removes jobs that nobody waits for; true when there were some.
    fn purge(&self, lanes: &mut Lanes<J>) -> bool {
        let before = lanes.len();
        lanes.interactive.retain_mut(|job| !self.drop_unwanted(job));
        lanes.background.retain_mut(|job| !self.drop_unwanted(job));
        let removed = before - lanes.len();
        self.counters.stop_waiting(removed);
        removed > 0
    }

    /// True when the job has ended because its caller left or its deadline passed.
    fn drop_unwanted(&self, job: &mut J) -> bool {
        if job.is_abandoned() {
            self.metrics.cancelled();
        } else if job.call().is_expired() {
            let latency = job.call().received.elapsed();
            self.metrics.finished(Ending::DeadlineExceeded, latency);
            job.fail(Error::DeadlineExceeded);
        } else {
            return false;
        }
        self.counters.count_cancelled();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<J>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
