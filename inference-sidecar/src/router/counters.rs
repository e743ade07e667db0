//! What is counted per upstream, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since start.
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    /// Requests that were sent there.
    pub requests: AtomicU64,
    /// Requests that failed before the first token, whatever happened to them elsewhere.
    pub failed_requests: AtomicU64,
    /// Requests that it was too busy for.
    pub overloaded: AtomicU64,
    /// Answers that broke off after the first token.
    pub broken_answers: AtomicU64,
    /// Requests whose caller left before the end.
    pub cancelled: AtomicU64,
    /// Tokens of finished answers, as it counts them.
    pub completion_tokens: AtomicU64,
    /// Times its breaker opened.
    pub breaker_openings: AtomicU64,
}

impl UpstreamCounters {
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }
}
