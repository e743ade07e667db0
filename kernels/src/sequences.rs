//! Attention of whole sequences: every token sees all tokens of its sequence, and of no other.
//!
//! A piece of work is a head of a sequence. Its keys and values are packed into panels, which its tokens
//! meet a few at a time. Sums go from token to token, so they depend on the sequence alone.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

use super::lanes::{Kernel, LANES, Lanes, Level, filled};
use super::parts::{Band, Bands, Uniform};
use super::pool::Pool;

/// The heads of a model.
#[derive(Debug, Clone, Copy)]
pub struct EqualHeads {
    pub count: usize,
    /// Values of one head.
    pub size: usize,
}

impl EqualHeads {
    /// The length of a row of all heads, filled up to whole vectors.
    fn width(self) -> usize {
        filled(self.count * self.size)
    }
}

/// `projected` holds for each token its queries, keys and values, each of all heads and filled up, and
/// `results` gets what each head makes of the values. `lengths` are the tokens of each sequence.
pub fn attend_sequences(
    pool: &Pool,
    level: Level,
    heads: EqualHeads,
    lengths: &[usize],
    projected: &[f32],
    results: &mut [f32],
) {
    let width = heads.width();
    let (mut projected, mut results) = (projected, results);
    let (mut sequences, mut outputs) = (Vec::new(), Vec::new());
    for length in lengths {
        let (of_sequence, others) = projected.split_at(length * 3 * width);
        let (of_results, other_results) = results.split_at_mut(length * width);
        sequences.push(of_sequence);
        outputs.push(Bands::new(of_results, width, heads.size));
        (projected, results) = (others, other_results);
    }
    let bands = width.div_ceil(heads.size);
    pool.for_each(
        Uniform::new(outputs, bands),
        |_, (sequence, head, results)| {
            // What fills up a row may look like one more head.
            if head < heads.count {
                let piece = Piece {
                    projected: sequences[sequence],
                    width,
                    first: head * heads.size,
                    size: heads.size,
                };
                piece.attend(level, results);
            }
        },
    );
}

/// Sixteen values in a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([f32; LANES]);

impl Line {
    const ZERO: Self = Self([0.0; LANES]);
}

/// One head of one sequence.
struct Piece<'a> {
    projected: &'a [f32],
    /// Of all queries of a token, and of all keys and values.
    width: usize,
    /// Where the head begins in them.
    first: usize,
    size: usize,
}

/// Tokens that are computed together: a multiple of every tile's rows.
const TOKENS: usize = 12;

impl Piece<'_> {
    fn attend(&self, level: Level, mut results: Band<'_>) {
        let tokens = self.projected.len() / (3 * self.width);
        let (keys, values) = self.pack(tokens);
        let (stride, width) = (filled(tokens), filled(self.size));
        let mut scores = vec![0.0; TOKENS * stride];
        let mut attended = vec![0.0; TOKENS * width];
        for first in (0..tokens).step_by(TOKENS) {
            let count = TOKENS.min(tokens - first);
            level.run(Products {
                rows: &self.projected[first * 3 * self.width + self.first..],
                stride: 3 * self.width,
                count,
                panels: &keys,
                depth: self.size,
                results: &mut scores,
            });
            level.run(Weigh {
                rows: &mut scores[..count * stride],
                count: tokens,
                scale: 1.0 / (self.size as f32).sqrt(),
            });
            level.run(Products {
                rows: &scores,
                stride,
                count,
                panels: &values,
                depth: tokens,
                results: &mut attended,
            });
            for (row, attended) in attended.chunks_exact(width).take(count).enumerate() {
                results.row(first + row)[..self.size].copy_from_slice(&attended[..self.size]);
            }
        }
    }

    /// The keys, sixteen tokens to a panel, value by value of the head; and the values, sixteen of the
    /// head to a panel, token by token.
    fn pack(&self, tokens: usize) -> (Vec<Line>, Vec<Line>) {
        let mut keys = Vec::with_capacity(tokens.div_ceil(LANES) * self.size);
        let mut values = Vec::with_capacity(self.size.div_ceil(LANES) * tokens);
        let rows = || self.projected.chunks_exact(3 * self.width);
        for first in (0..tokens).step_by(LANES) {
            let mut of_tokens: [&[f32]; LANES] = [&[]; LANES];
            for (of_token, row) in of_tokens.iter_mut().zip(rows().skip(first)) {
                *of_token = &row[self.width + self.first..][..self.size];
            }
            let count = LANES.min(tokens - first);
            for value in 0..self.size {
                let mut line = Line::ZERO;
                for (to, of_token) in line.0.iter_mut().zip(&of_tokens[..count]) {
                    *to = of_token[value];
                }
                keys.push(line);
            }
        }
        for first in (0..self.size).step_by(LANES) {
            for row in rows() {
                let of_token = &row[2 * self.width + self.first..][..self.size];
                let part = &of_token[first..self.size.min(first + LANES)];
                let mut line = Line::ZERO;
                line.0[..part.len()].copy_from_slice(part);
                values.push(line);
            }
        }
        (keys, values)
    }
}

/// Products of the first `depth` values of some rows with panels of as many lines.
struct Products<'a> {
    rows: &'a [f32],
    /// From row to row.
    stride: usize,
    count: usize,
    panels: &'a [Line],
    depth: usize,
    /// For each row sixteen of each panel.
    results: &'a mut [f32],
}

// A kernel of its own, so that the constants of the softmax take no registers from the sums.
impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let mut row = 0;
        while row < self.count {
            row += match self.count - row {
                12.. if L::SUMS >= 24 => self.tile::<L, 12>(lanes, row),
                6.. => self.tile::<L, 6>(lanes, row),
                4.. => self.tile::<L, 4>(lanes, row),
                2.. => self.tile::<L, 2>(lanes, row),
                _ => self.tile::<L, 1>(lanes, row),
            };
        }
    }
}

impl Products<'_> {
    /// Computes `N` rows; returns `N`.
    #[inline(always)]
    fn tile<L: Lanes, const N: usize>(&mut self, lanes: L, row: usize) -> usize {
        let mut rows: [&[f32]; N] = [&[]; N];
        for n in 0..N {
            rows[n] = &self.rows[(row + n) * self.stride..][..self.depth];
        }
        let width = self.panels.len() / self.depth;
        let (results, _) = self.results[row * width * LANES..].as_chunks_mut::<LANES>();
        for (index, panel) in self.panels.chunks_exact(self.depth).enumerate() {
            let mut sums = [lanes.splat(0.0); N];
            for k in 0..self.depth {
                let values = lanes.load(&panel[k].0);
                for n in 0..N {
                    sums[n] = lanes.fma(lanes.splat(rows[n][k]), values, sums[n]);
                }
            }
            for n in 0..N {
                lanes.store(sums[n], &mut results[n * width + index]);
            }
        }
        N
    }
}

/// The softmax of the first `count` scores of each row, scaled; those after them become zero.
struct Weigh<'a> {
    rows: &'a mut [f32],
    count: usize,
    scale: f32,
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for row in self.rows.chunks_exact_mut(filled(self.count)) {
            let (row, _) = row.as_chunks_mut::<LANES>();
            let mut highest = lanes.splat(f32::NEG_INFINITY);
            for (index, scores) in row.iter().enumerate() {
                let left = self.count - index * LANES;
                let scores = lanes.keep_first(lanes.load(scores), left, f32::NEG_INFINITY);
                highest = lanes.max(highest, scores);
            }
            let minus_highest = lanes.splat(-lanes.largest(highest));
            let mut total = lanes.splat(0.0);
            for (index, scores) in row.iter_mut().enumerate() {
                let distance = lanes.add(lanes.load(scores), minus_highest);
                let weights = lanes.exp(lanes.mul(distance, lanes.splat(self.scale)));
                let weights = lanes.keep_first(weights, self.count - index * LANES, 0.0);
                total = lanes.add(total, weights);
                lanes.store(weights, scores);
            }
            let factor = lanes.splat(1.0 / lanes.sum(total));
            for weights in row {
                lanes.store(lanes.mul(lanes.load(weights), factor), weights);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: attention equals its definition, at every level bit for bit the same, and a sequence's
    //! results depend on no other sequence.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn attend(level: Level, heads: EqualHeads, lengths: &[usize], projected: &[f32]) -> Vec<f32> {
        let mut results = vec![0.0; lengths.iter().sum::<usize>() * heads.width()];
        let pool = Pool::new(2);
        attend_sequences(&pool, level, heads, lengths, projected, &mut results);
        results
    }

    fn defined(heads: EqualHeads, projected: &[f32], token: usize, head: usize) -> Vec<f64> {
        let width = heads.width();
        let rows: Vec<&[f32]> = projected.chunks(3 * width).collect();
        let of = |part: usize, token: usize| -> Vec<f64> {
            let values = &rows[token][part * width + head * heads.size..][..heads.size];
            values.iter().map(|value| f64::from(*value)).collect()
        };
        let query = of(0, token);
        let weight = |other: usize| {
            let keys = of(1, other);
            let product: f64 = query.iter().zip(keys).map(|(q, k)| q * k).sum();
            (product / (heads.size as f64).sqrt()).exp()
        };
        let weights: Vec<f64> = (0..rows.len()).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut result = vec![0.0; heads.size];
        for (other, weight) in weights.iter().enumerate() {
            for (result, value) in result.iter_mut().zip(of(2, other)) {
                *result += weight / total * value;
            }
        }
        result
    }

    #[test]
    fn attention_equals_the_definition_whatever_is_beside() {
        let lengths = [1, 2, 3, 16, 17, 40, 75];
        for (count, size) in [(3, 32), (2, 64), (5, 8), (2, 12), (1, 20)] {
            let heads = EqualHeads { count, size };
            let width = 3 * heads.width();
            let mut random = StdRng::seed_from_u64(size as u64);
            let tokens: usize = lengths.iter().sum();
            let projected: Vec<f32> = (0..tokens * width)
                .map(|_| random.random_range(-2.0..2.0))
                .collect();
            let portable = attend(Level::Portable, heads, &lengths, &projected);
            for level in Level::all() {
                assert!(attend(level, heads, &lengths, &projected) == portable);
            }
            let mut first = 0;
            for length in lengths {
                let projected = &projected[first * width..][..length * width];
                let beside = &portable[first * heads.width()..][..length * heads.width()];
                assert_eq!(attend(Level::best(), heads, &[length], projected), beside);
                for token in 0..length {
                    for head in 0..count {
                        let start = token * heads.width() + head * size;
                        let exact = defined(heads, projected, token, head);
                        for (found, exact) in beside[start..].iter().zip(exact) {
                            assert!((f64::from(*found) - exact).abs() < 2e-6, "{found} {exact}");
                        }
                    }
                }
                first += length;
            }
        }
    }
}
