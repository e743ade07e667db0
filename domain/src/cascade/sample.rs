//! Which rows are judged first.

/// What the model judges before the head decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Rows drawn at random, to learn from.
    pub first: usize,
    /// Rows that the head is least sure of, to learn from, again and again (uncertainty sampling: Lewis and Gale,
    /// SIGIR 1994).
    pub round: usize,
    /// How often at most.
    pub rounds: usize,
    /// Rows drawn at random from all that were not judged so far: they tell how good the head is.
    pub calibration: usize,
}

/// Below this many rows a sample costs more than it saves.
const ROWS_MIN: usize = 600;
const ROUNDS: usize = 8;

impl Budget {
    /// What is spent on `rows`; None: the model judges all of them.
    pub fn of(rows: usize) -> Option<Self> {
        let first = (rows / 40).clamp(100, 200);
        let round = (rows / 100).clamp(20, 100);
        let calibration = (rows / 16).clamp(150, 500);
        (rows >= ROWS_MIN).then(|| Self {
            first,
            round,
            // With what is judged already, less than half of the rows.
            rounds: ROUNDS.min((rows / 2).saturating_sub(first + calibration) / round),
            calibration,
        })
    }
}

/// The numbers below `count` in a random order (Fisher and Yates), the same for the same seed.
pub fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed;
    for end in (1..count).rev() {
        order.swap(end, below(end + 1, &mut state));
    }
    order
}

/// A random number below `bound`. The bias is far below one in a million.
fn below(bound: usize, state: &mut u64) -> usize {
    // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * bound as u128) >> 64) as usize
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
