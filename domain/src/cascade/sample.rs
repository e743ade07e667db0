//! Which rows are judged first.

/// Rows for the head to learn from, and rows that tell how good it is. Every other row is decided by what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub training: usize,
    pub calibration: usize,
}

/// Below this many rows a sample costs more than it saves.
const ROWS_MIN: usize = 600;
const TRAINING: std::ops::RangeInclusive<usize> = 150..=400;
const CALIBRATION: std::ops::RangeInclusive<usize> = 150..=600;

impl Budget {
    /// What is spent on `rows`; None: the model judges all of them.
    pub fn of(rows: usize) -> Option<Self> {
        (rows >= ROWS_MIN).then(|| Self {
            training: (rows / 25).clamp(*TRAINING.start(), *TRAINING.end()),
            calibration: (rows / 16).clamp(*CALIBRATION.start(), *CALIBRATION.end()),
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
