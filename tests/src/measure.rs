//! Waiting with a limit, and figures.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Waits until `is_done`; panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < limit, "not after {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// The smallest value that `share` of all values do not exceed.
pub fn percentile(values: &mut [Duration], share: f64) -> Duration {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// Milliseconds with one digit after the point.
pub fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Numbers that look random and are the same in each run (Knuth's MMIX generator).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration between two numbers of milliseconds.
    pub fn between_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.throw() % (to - from))
    }

    /// A number from 0 to below 1.
    pub fn share(&mut self) -> f32 {
        (self.throw() % (1 << 24)) as f32 / (1 << 24) as f32
    }

    /// 31 bits.
    fn throw(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// A number from the environment, which is how a bench is told its size.
#[allow(clippy::disallowed_methods)]
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{name}: {error}")),
        Err(_) => default,
    }
}
