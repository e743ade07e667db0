//! What the processor and its memory can do at most: the rooflines beside which speeds are told.

// Sums stay in registers only where their index is a constant of an unrolled loop.
#![allow(clippy::needless_range_loop)]

use std::hint::black_box;
use std::time::Instant;

use crate::lanes::{Kernel, Lanes, Level};
use crate::pages::{Arena, NoMemory, Pages};
use crate::parts::Chunks;
use crate::pool::Pool;

/// Bytes that are read: more than caches hold.
const BYTES: usize = 512 << 20;
/// Sums that depend on each other alone, enough to hide that each takes a few cycles.
const SUMS: usize = 12;
const STEPS: usize = 2_000_000;

/// Bytes per second that all threads of the pool read from memory together, the best of `runs`.
pub fn read_bandwidth(pool: &Pool, level: Level, runs: usize) -> Result<f64, NoMemory> {
    let mut bytes: Pages<u8> = Arena::default().take(BYTES)?;
    bytes.fill(1);
    let part = BYTES / (pool.threads() * 4);
    let seconds = fastest(runs, || {
        pool.for_each(Chunks::new(&mut bytes, part), |_, bytes| {
            black_box(level.run(Read(bytes)));
        });
    });
    Ok(BYTES as f64 / seconds)
}

/// Multiplications and additions per second of 8-bit numbers, of all threads together, the best of `runs`.
pub fn int8_rate(pool: &Pool, level: Level, runs: usize) -> f64 {
    let threads = pool.threads();
    let seconds = fastest(runs, || {
        pool.run(threads, &|_| {
            black_box(level.run(Multiply));
        });
    });
    // Two for each of the 64 bytes.
    (threads * STEPS * SUMS * 2 * 64) as f64 / seconds
}

fn fastest(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut fastest = f64::INFINITY;
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        work();
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    fastest
}

struct Read<'a>(&'a [u8]);

impl Kernel for Read<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> u64 {
        let (words, _) = self.0.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_ne_bytes(*word));
        words.fold(0, u64::wrapping_add)
    }
}

struct Multiply;

impl Kernel for Multiply {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> f32 {
        let weights = lanes.load_bytes(&black_box([1; 64]));
        let mut sums = [lanes.splat_i32(0); SUMS];
        for step in 0..STEPS {
            let x = (step as u32).to_le_bytes();
            for sum in 0..SUMS {
                sums[sum] = lanes.dot(sums[sum], weights, x);
            }
        }
        let mut total = lanes.splat(0.0);
        for sum in 0..SUMS {
            total = lanes.add(total, lanes.to_f32(sums[sum]));
        }
        lanes.sum(total)
    }
}
