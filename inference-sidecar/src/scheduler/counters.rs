//! The numbers that GetStatus reports, and the bound on waiting requests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::KvBlocks;

/// Counters of the whole server, shared by all queues and workers.
pub struct Counters {
    running: AtomicU32,
    waiting: AtomicU32,
    waiting_max: u32,
    refused: AtomicU64,
    generation_steps: AtomicU64,
    cancelled: AtomicU64,
    preempted: AtomicU64,
    prefix_hit_tokens: AtomicU64,
    /// By model.
    kv: Mutex<BTreeMap<String, KvBlocks>>,
    /// Moving average of a job's run time, the base of the retry hint.
    job_ms: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub running: u32,
    pub waiting: u32,
    pub waiting_max: u32,
    pub refused: u64,
    pub generation_steps: u64,
    pub cancelled: u64,
    pub preempted: u64,
    pub prefix_hit_tokens: u64,
    /// Of all models together.
    pub kv: KvBlocks,
}

/// Keeps the place of a job that has left its queue and does not run yet, until dropped.
pub struct Waiting {
    counters: Arc<Counters>,
}

/// Counts a job as running until dropped.
pub struct Running {
    counters: Arc<Counters>,
    since: Instant,
}

impl Counters {
    pub fn new(waiting_max: u32) -> Self {
        Self {
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            waiting_max,
            refused: AtomicU64::new(0),
            generation_steps: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            preempted: AtomicU64::new(0),
            prefix_hit_tokens: AtomicU64::new(0),
            kv: Mutex::default(),
            job_ms: AtomicU64::new(100),
        }
    }

    pub fn load(&self) -> Load {
        Load {
            running: self.running.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            waiting_max: self.waiting_max,
            refused: self.refused.load(Relaxed),
            generation_steps: self.generation_steps.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            preempted: self.preempted.load(Relaxed),
            prefix_hit_tokens: self.prefix_hit_tokens.load(Relaxed),
            kv: self.kv(),
        }
    }

    /// Takes a place in the queue if one is free.
    pub fn try_wait(&self) -> bool {
        let take = |waiting: u32| (waiting < self.waiting_max).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Whoever holds the result gives one place back by dropping it.
    pub fn hold_place(self: &Arc<Self>) -> Waiting {
        Waiting {
            counters: self.clone(),
        }
    }

    /// Gives `places` in the queue back.
    pub fn stop_waiting(&self, places: usize) {
        self.waiting.fetch_sub(places as u32, Relaxed);
    }

    pub fn run(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Relaxed);
        Running {
            counters: self.clone(),
            since: Instant::now(),
        }
    }

    pub fn count_preempted(&self) {
        self.preempted.fetch_add(1, Relaxed);
    }

    pub fn count_prefix_hits(&self, tokens: usize) {
        self.prefix_hit_tokens.fetch_add(tokens as u64, Relaxed);
    }

    /// Notes how the blocks of `model` are used now.
    pub fn set_kv(&self, model: &str, usage: KvBlocks) {
        let mut kv = self.kv.lock().unwrap_or_else(PoisonError::into_inner);
        match kv.get_mut(model) {
            Some(entry) => *entry = usage,
            None => {
                kv.insert(model.to_owned(), usage);
            }
        }
    }

    pub fn count_step(&self) {
        self.generation_steps.fetch_add(1, Relaxed);
    }

    pub fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    fn kv(&self) -> KvBlocks {
        let kv = self.kv.lock().unwrap_or_else(PoisonError::into_inner);
        kv.values()
            .fold(KvBlocks::default(), |sum, entry| KvBlocks {
                total: sum.total + entry.total,
                used: sum.used + entry.used,
                cached: sum.cached + entry.cached,
            })
    }

    /// When a refused caller may find a place: about when one more job has ended.
    pub fn retry_after(&self) -> Duration {
        Duration::from_millis(self.job_ms.load(Relaxed).clamp(50, 10_000))
    }
}

impl Waiting {
    /// The job runs from now on.
    pub fn run(self) -> Running {
        self.counters.run()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.counters.stop_waiting(1);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counters.running.fetch_sub(1, Relaxed);
        let last_ms = self.since.elapsed().as_millis() as u64;
        let blend = |average: u64| Some((average * 7 + last_ms) / 8);
        // The closure never refuses, so the update cannot fail.
        let _ = self.counters.job_ms.fetch_update(Relaxed, Relaxed, blend);
    }
}
