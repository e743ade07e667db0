//! How many rows are taken, and how many documents asked about, together. The first is asked about alone: a `limit 1` asks
//! about no more, and a sidecar that hangs is noticed in the time of one.

use std::time::Duration;

/// Rows of a batch, and documents of a call.
const TOGETHER_MAX: usize = 1_000;
/// How many times as many may be asked about as before.
const GROWTH_MAX: usize = 4;
/// Documents of a call after one that asked no model, which says nothing of how long the next takes.
const UNASKED_MAX: usize = 16;
/// The part of the time limit of one call that several are to take.
const SHARE: u32 = 4;
/// Bytes that a document counts for besides its own: the rules that stand before it.
const FRAME_BYTES: usize = 256;
/// Bytes of a batch, and of the documents of a call.
pub const BYTES_MAX: usize = 16 << 20;

/// Rows of the next batch, after one of so many with so many bytes that took so long.
pub fn next_rows(rows: usize, bytes: usize, elapsed: Duration, limit: Duration) -> usize {
    let aim = (limit / SHARE).as_secs_f64();
    let by_pace = rows as f64 * aim / elapsed.as_secs_f64().max(f64::EPSILON);
    let by_bytes = rows as f64 * BYTES_MAX as f64 / bytes.max(1) as f64;
    (by_pace.min(by_bytes) as usize).clamp(1, (rows * GROWTH_MAX).min(TOGETHER_MAX))
}

/// How quickly documents are answered.
pub struct Pace {
    /// Seconds for a byte; 0 before any was asked about.
    per_byte: f64,
    /// Documents of the next call.
    most: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            per_byte: 0.0,
            most: 1,
        }
    }
}

impl Pace {
    /// How many of the next documents are asked about in one call, by their bytes: at least one.
    pub fn documents(&self, bytes: impl Iterator<Item = usize>, limit: Duration) -> usize {
        let aim = (limit / SHARE).as_secs_f64();
        let mut sum = 0;
        let fitting = bytes.take(self.most).take_while(|bytes| {
            sum += bytes + FRAME_BYTES;
            sum <= BYTES_MAX && sum as f64 * self.per_byte <= aim
        });
        fitting.count().max(1)
    }

    /// Learns of a call about so many documents, of which so many asked a model.
    pub fn learn(&mut self, documents: usize, bytes: usize, asked: usize, elapsed: Duration) {
        if asked == 0 {
            let unasked = (self.most * GROWTH_MAX).min(UNASKED_MAX);
            self.most = self.most.max(unasked);
            return;
        }
        let asked_share = asked as f64 / documents.max(1) as f64;
        let bytes = (bytes + documents * FRAME_BYTES) as f64 * asked_share;
        self.per_byte = elapsed.as_secs_f64() / bytes.max(1.0);
        self.most = (asked * GROWTH_MAX).min(TOGETHER_MAX);
    }
}

/// Documents together may take as long as so many alone.
pub fn limits_in_time(documents: usize) -> usize {
    documents.clamp(1, SHARE as usize)
}

#[cfg(test)]
mod pace_tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Goal: what is quick grows to the most rows, and no faster than it may.
    #[test]
    fn rows_grow() {
        let sizes = std::iter::successors(Some(1), |&rows| {
            Some(next_rows(
                rows,
                rows,
                Duration::from_micros(rows as u64),
                LIMIT,
            ))
        });
        let sizes: Vec<usize> = sizes.take(7).collect();
        assert_eq!(sizes, [1, 4, 16, 64, 256, 1_000, 1_000]);
    }

    /// Goal: a batch takes a quarter of the limit and no more memory than it may where things stay as they are, and never
    /// less than a row.
    #[test]
    fn rows_keep_to_limits() {
        assert_eq!(next_rows(16, 1, Duration::from_secs(16), LIMIT), 7);
        assert_eq!(next_rows(16, 1, Duration::from_secs(900), LIMIT), 1);
        assert_eq!(next_rows(16, 64 << 20, Duration::ZERO, LIMIT), 4);
        assert_eq!(next_rows(1, 64 << 20, Duration::ZERO, Duration::ZERO), 1);
    }

    fn documents(pace: &Pace, bytes: usize) -> usize {
        pace.documents(std::iter::repeat_n(bytes, 5_000), LIMIT)
    }

    /// Goal: the first document is asked about alone, and long ones after short ones are few.
    #[test]
    fn documents_keep_to_the_pace() {
        let mut pace = Pace::default();
        assert_eq!(documents(&pace, 100), 1);
        pace.learn(1, 100, 1, Duration::from_millis(10));
        assert_eq!(documents(&pace, 100), 4);
        pace.learn(250, 25_000, 250, Duration::from_millis(2_500));
        assert_eq!(documents(&pace, 100), 750);
        assert_eq!(documents(&pace, 100_000), 2);
        assert_eq!(documents(&pace, 32 << 20), 1);
        pace.learn(4, 400, 4, Duration::from_secs(60));
        assert_eq!(documents(&pace, 100), 1);
    }

    /// Goal: documents that ask no model say nothing of those that do.
    #[test]
    fn remembered_ones_do_not_count() {
        let mut pace = Pace::default();
        for _ in 0..9 {
            pace.learn(1_000, 100_000, 0, Duration::from_millis(1));
        }
        assert_eq!(documents(&pace, 100), UNASKED_MAX);
        pace.learn(16, 1_600, 2, Duration::from_secs(2));
        assert_eq!(documents(&pace, 100), 7);
    }
}
