//! What this process asked of models: sums since it began, counted where answers arrive. What a call or a part of a
//! query used is the difference of two readings.

use std::cell::Cell;
use std::ops::{Add, Sub};
use std::time::Instant;

thread_local! {
    // Without a destructor, so that it can always be read.
    static TOTAL: Cell<Usage> = const { Cell::new(Usage([0; Measure::ALL.len()])) };
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests: a generation each, or many texts to embed or to rerank.
    Calls,
    /// Texts that the model wrote to their end.
    Generations,
    /// Of those.
    PromptTokens,
    CompletionTokens,
    EmbeddedTexts,
    EmbeddedTokens,
    RerankedTexts,
    /// Results of earlier calls that were used again (`salesai.result_cache`).
    Remembered,
    /// Microseconds.
    SidecarWait,
}

impl Measure {
    pub const ALL: [Self; 9] = [
        Self::Calls,
        Self::Generations,
        Self::PromptTokens,
        Self::CompletionTokens,
        Self::EmbeddedTexts,
        Self::EmbeddedTokens,
        Self::RerankedTexts,
        Self::Remembered,
        Self::SidecarWait,
    ];
}

/// A sum for each measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage([i64; Measure::ALL.len()]);

impl Usage {
    pub fn get(&self, measure: Measure) -> i64 {
        self.0[measure as usize]
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| {
            self.0[at].wrapping_add(other.0[at])
        }))
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| {
            self.0[at].wrapping_sub(other.0[at])
        }))
    }
}

/// All since the process began.
pub fn total() -> Usage {
    TOTAL.get()
}

pub fn count(measure: Measure, amount: impl TryInto<i64>) {
    let mut total = TOTAL.get();
    let sum = &mut total.0[measure as usize];
    *sum = sum.wrapping_add(amount.try_into().unwrap_or(0));
    TOTAL.set(total);
}

/// Counts the time since then as waited for the sidecar.
pub fn count_wait(since: Instant) {
    count(Measure::SidecarWait, since.elapsed().as_micros());
}
