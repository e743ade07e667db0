//! How many rows are taken together. The first is asked about alone: a `limit 1` asks about no more, and a sidecar that
//! hangs is noticed in the time of one.

use std::time::Duration;

/// Rows of a batch.
const ROWS_MAX: usize = 1_000;
/// How much larger a batch may be than the one before.
const GROWTH_MAX: usize = 4;
/// The part of the time limit of one call that a batch is to take.
const SHARE: u32 = 4;

/// Rows of the next batch, after one of so many that took so long, with a limit for one call.
pub fn next(rows: usize, elapsed: Duration, limit: Duration) -> usize {
    let aim = (limit / SHARE).as_secs_f64();
    let by_pace = rows as f64 * aim / elapsed.as_secs_f64().max(f64::EPSILON);
    (by_pace as usize).clamp(1, (rows * GROWTH_MAX).min(ROWS_MAX))
}

/// Calls of a batch may take as long as so many of single rows.
pub fn calls_in_time(rows: usize) -> usize {
    rows.clamp(1, SHARE as usize)
}

#[cfg(test)]
mod pace_tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Goal: what is quick grows to the most rows, and no faster than it may.
    #[test]
    fn grows() {
        let sizes = std::iter::successors(Some(1), |&rows| {
            Some(next(rows, Duration::from_micros(rows as u64), LIMIT))
        });
        let sizes: Vec<usize> = sizes.take(7).collect();
        assert_eq!(sizes, [1, 4, 16, 64, 256, 1_000, 1_000]);
    }

    /// Goal: a batch takes a quarter of the limit where the pace stays the same, and never less than a row.
    #[test]
    fn keeps_to_the_limit() {
        assert_eq!(next(16, Duration::from_secs(16), LIMIT), 7);
        assert_eq!(next(16, Duration::from_secs(900), LIMIT), 1);
        assert_eq!(next(1, Duration::ZERO, Duration::ZERO), 1);
    }
}
