//! Causal attention over the blocks of a sequence.
//!
//! The softmax is computed online (Milakov and Gimelshein, arXiv 1805.02867) over 64 positions at a
//! time, counted from the start of the sequence, so a token's result does not depend on which other
//! tokens are computed beside it. Query heads that share keys and values, and neighbouring tokens, read
//! them once.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

use super::lanes::{Kernel, LANES, Lanes, Level};
use super::parts::{Band, Bands, Uniform};
use super::pool::Pool;
use super::stored::Stored;
use crate::models::{BlockId, KV_BLOCK_TOKENS};

/// The heads of a model; `count` is a multiple of `kv`.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub kv: usize,
    /// Values of one head.
    pub size: usize,
}

impl Heads {
    /// Values of a head of keys or values, filled up to whole vectors.
    pub(in crate::models) fn stored_size(self) -> usize {
        self.size.next_multiple_of(LANES)
    }
}

/// Keys and values of one layer.
pub(in crate::models) enum HostKv {
    /// In f16.
    Half(Cells<u16>),
    /// In f32: exact, twice as large.
    Full(Cells<f32>),
}

/// A block holds for each kv head the keys, value by value (so that a vector holds one value of all its
/// tokens), and the values, token by token.
pub(in crate::models) struct Cells<T> {
    keys: Vec<T>,
    values: Vec<T>,
    heads: Heads,
    /// Values of a head, filled up to whole vectors.
    width: usize,
}

/// The new tokens of one sequence.
#[derive(Clone, Copy)]
pub(in crate::models) struct Span<'a> {
    pub position: usize,
    pub tokens: usize,
    pub blocks: &'a [BlockId],
}

const _: () = assert!(KV_BLOCK_TOKENS == LANES);
/// Blocks whose scores are normalised together.
const STEP: usize = 4;
/// Query rows (tokens × heads of a group) of a piece of work.
const ROWS: usize = 12;

impl HostKv {
    pub(in crate::models) fn half(blocks: usize, heads: Heads) -> Self {
        Self::Half(Cells::new(blocks, heads))
    }

    pub(in crate::models) fn full(blocks: usize, heads: Heads) -> Self {
        Self::Full(Cells::new(blocks, heads))
    }

    /// Stores the keys and values of the tokens of all spans (tokens × kv heads × head size).
    pub(in crate::models) fn write(
        &mut self,
        level: Level,
        spans: &[Span<'_>],
        keys: &[f32],
        values: &[f32],
    ) {
        match self {
            Self::Half(cells) => cells.write(level, spans, keys, values),
            Self::Full(cells) => cells.write(level, spans, keys, values),
        }
    }
}

impl<T: Stored> Cells<T> {
    fn new(blocks: usize, heads: Heads) -> Self {
        let width = heads.stored_size();
        // Zeroed memory comes from the system lazily: blocks that are never used cost nothing.
        let length = blocks * heads.kv * width * KV_BLOCK_TOKENS;
        Self {
            keys: vec![T::default(); length],
            values: vec![T::default(); length],
            heads,
            width,
        }
    }

    fn write(&mut self, level: Level, spans: &[Span<'_>], keys: &[f32], values: &[f32]) {
        level.run(WriteSpans {
            cells: self,
            spans,
            keys,
            values,
        });
    }

    /// Where a head of a block begins.
    fn offset(&self, block: BlockId, head: usize) -> usize {
        (block.0 as usize * self.heads.kv + head) * self.width * KV_BLOCK_TOKENS
    }
}

struct WriteSpans<'a, T> {
    cells: &'a mut Cells<T>,
    spans: &'a [Span<'a>],
    keys: &'a [f32],
    values: &'a [f32],
}

impl<T: Stored> Kernel for WriteSpans<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Cells { heads, width, .. } = *self.cells;
        let places = self.spans.iter().flat_map(Span::places);
        let keys = self.keys.chunks_exact(heads.kv * heads.size);
        let values = self.values.chunks_exact(heads.kv * heads.size);
        for ((block, slot), (keys, values)) in places.zip(keys.zip(values)) {
            for head in 0..heads.kv {
                let start = self.cells.offset(block, head);
                let of_head = head * heads.size..(head + 1) * heads.size;
                for (index, part) in keys[of_head.clone()].chunks(LANES).enumerate() {
                    let first = start + index * LANES * KV_BLOCK_TOKENS + slot;
                    let to = self.cells.keys[first..].iter_mut().step_by(KV_BLOCK_TOKENS);
                    for (to, half) in to.zip(stored(lanes, part)) {
                        *to = half;
                    }
                }
                for (index, part) in values[of_head].chunks(LANES).enumerate() {
                    let first = start + slot * width + index * LANES;
                    let to = &mut self.cells.values[first..][..LANES];
                    to.copy_from_slice(&stored(lanes, part));
                }
            }
        }
    }
}

impl<'a> Span<'a> {
    /// Block and slot of each of its tokens.
    fn places(&self) -> impl Iterator<Item = (BlockId, usize)> + use<'a> {
        let Self {
            position,
            tokens,
            blocks,
        } = *self;
        (position..position + tokens)
            .map(move |at| (blocks[at / KV_BLOCK_TOKENS], at % KV_BLOCK_TOKENS))
    }
}

/// At most sixteen values, filled up with zeros.
#[inline(always)]
fn stored<L: Lanes, T: Stored>(lanes: L, values: &[f32]) -> [T; LANES] {
    let mut filled = [0.0; LANES];
    filled[..values.len()].copy_from_slice(values);
    T::store(lanes, lanes.load(&filled))
}

/// Results for tokens × heads × head size queries: each token sees its own and all earlier positions.
pub(in crate::models) fn attend(
    pool: &Pool,
    level: Level,
    cache: &HostKv,
    spans: &[Span<'_>],
    queries: &[f32],
    results: &mut [f32],
) {
    match cache {
        HostKv::Half(cells) => attend_cells(pool, level, cells, spans, queries, results),
        HostKv::Full(cells) => attend_cells(pool, level, cells, spans, queries, results),
    }
}

fn attend_cells<T: Stored>(
    pool: &Pool,
    level: Level,
    cells: &Cells<T>,
    spans: &[Span<'_>],
    queries: &[f32],
    results: &mut [f32],
) {
    let Heads { count, kv, size } = cells.heads;
    let (row, group) = (count * size, count / kv);
    let tile = (ROWS / group).max(1);
    let (mut tiles, mut outputs) = (Vec::new(), Vec::new());
    let (mut queries, mut results) = (queries, results);
    for span in spans {
        for first in (0..span.tokens).step_by(tile) {
            let tokens = tile.min(span.tokens - first);
            let (of_tile, others) = results.split_at_mut(tokens * row);
            outputs.push(Bands::new(of_tile, row, group * size));
            let (of_tile, other_queries) = queries.split_at(tokens * row);
            let position = span.position + first;
            let blocks = span.blocks;
            tiles.push((
                Span {
                    position,
                    tokens,
                    blocks,
                },
                of_tile,
            ));
            (results, queries) = (others, other_queries);
        }
    }
    pool.for_each(Uniform::new(outputs, kv), |_, (tile, kv_head, results)| {
        let (span, queries) = tiles[tile];
        level.run(Piece {
            cells,
            span,
            kv_head,
            queries,
            results,
        });
    });
}

/// The tokens of a span under the query heads of one group.
struct Piece<'a, T> {
    cells: &'a Cells<T>,
    span: Span<'a>,
    kv_head: usize,
    queries: &'a [f32],
    results: Band<'a>,
}

impl<T: Stored> Kernel for Piece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let rows = self.span.tokens * self.group();
        let mut first = 0;
        // Groups larger than a piece are cut; all sizes give the same results.
        while first < rows {
            first += match rows - first {
                12.. => self.rows::<L, 12, 1>(lanes, first),
                8.. => self.rows::<L, 8, 1>(lanes, first),
                6.. => self.rows::<L, 6, 2>(lanes, first),
                4.. => self.rows::<L, 4, 4>(lanes, first),
                3 => self.rows::<L, 3, 4>(lanes, first),
                2 => self.rows::<L, 2, 4>(lanes, first),
                _ => self.rows::<L, 1, 4>(lanes, first),
            };
        }
    }
}

impl<T: Stored> Piece<'_, T> {
    /// Query heads that share keys and values.
    #[inline(always)]
    fn group(&self) -> usize {
        self.cells.heads.count / self.cells.heads.kv
    }

    /// Computes `N` rows, `W` vectors at once; returns `N`.
    #[inline(always)]
    fn rows<L: Lanes, const N: usize, const W: usize>(&mut self, lanes: L, first: usize) -> usize {
        let Heads { count, size, .. } = self.cells.heads;
        let group = self.group();
        let token = |row: usize| (first + row) / group;
        let head = |row: usize| (first + row) % group;
        let query = |row: usize| {
            let head = token(row) * count + self.kv_head * group + head(row);
            &self.queries[head * size..][..size]
        };
        let mut rows = Rows {
            cells: self.cells,
            kv_head: self.kv_head,
            queries: std::array::from_fn(query),
            seen: std::array::from_fn(|row| self.span.position + token(row) + 1),
            scores: [[[0.0; LANES]; STEP]; N],
            highest: [f32::NEG_INFINITY; N],
            totals: [lanes.splat(0.0); N],
            sums: vec![[0.0; LANES]; N * self.cells.width / LANES],
        };
        let blocks = rows.seen[N - 1].div_ceil(KV_BLOCK_TOKENS);
        for (step, blocks) in self.span.blocks[..blocks].chunks(STEP).enumerate() {
            rows.score::<W>(lanes, blocks);
            let factors = rows.normalise(lanes, step * STEP * KV_BLOCK_TOKENS, blocks.len());
            rows.add_values::<W>(lanes, blocks, factors);
        }
        for row in 0..N {
            let results = &mut self.results.row(token(row))[head(row) * size..][..size];
            rows.finish(lanes, row, results);
        }
        N
    }
}

/// Query rows on their way through the positions.
struct Rows<'a, L: Lanes, T, const N: usize> {
    cells: &'a Cells<T>,
    kv_head: usize,
    queries: [&'a [f32]; N],
    /// Positions that each row sees.
    seen: [usize; N],
    /// Of the positions of this step; after `normalise` their weights.
    scores: [[[f32; LANES]; STEP]; N],
    highest: [f32; N],
    /// Sums of the weights, lane by lane.
    totals: [L::F; N],
    /// Weighted values, row by row.
    sums: Vec<[f32; LANES]>,
}

impl<L: Lanes, T: Stored, const N: usize> Rows<'_, L, T, N> {
    #[inline(always)]
    fn score<const W: usize>(&mut self, lanes: L, blocks: &[BlockId]) {
        let mut first = 0;
        while first + W <= blocks.len() {
            self.score_blocks::<W>(lanes, blocks, first);
            first += W;
        }
        while first < blocks.len() {
            self.score_blocks::<1>(lanes, blocks, first);
            first += 1;
        }
    }

    #[inline(always)]
    fn score_blocks<const W: usize>(&mut self, lanes: L, blocks: &[BlockId], first: usize) {
        let size = self.cells.heads.size;
        let keys: [&[[T; LANES]]; W] = std::array::from_fn(|index| {
            let start = self.cells.offset(blocks[first + index], self.kv_head);
            let (keys, _) = self.cells.keys[start..].as_chunks();
            &keys[..size]
        });
        let queries = self.queries.map(|query| &query[..size]);
        let mut sums = [[lanes.splat(0.0); W]; N];
        for value in 0..size {
            let keys = keys.map(|keys| T::load(lanes, &keys[value]));
            for row in 0..N {
                let query = lanes.splat(queries[row][value]);
                for index in 0..W {
                    sums[row][index] = lanes.fma(keys[index], query, sums[row][index]);
                }
            }
        }
        let scale = lanes.splat(1.0 / (size as f32).sqrt());
        for row in 0..N {
            for index in 0..W {
                let scores = lanes.mul(sums[row][index], scale);
                lanes.store(scores, &mut self.scores[row][first + index]);
            }
        }
    }

    /// Turns scores into weights; returns by what the sums so far must be multiplied.
    #[inline(always)]
    fn normalise(&mut self, lanes: L, position: usize, blocks: usize) -> [f32; N] {
        std::array::from_fn(|row| {
            let seen = self.seen[row].saturating_sub(position);
            let in_block = |block: usize| seen.saturating_sub(block * KV_BLOCK_TOKENS);
            let scores = &mut self.scores[row][..blocks];
            let mut highest = lanes.splat(self.highest[row]);
            for (block, scores) in scores.iter().enumerate() {
                let scores = lanes.load(scores);
                let scores = lanes.keep_first(scores, in_block(block), f32::NEG_INFINITY);
                highest = lanes.max(highest, scores);
            }
            let before = self.highest[row];
            self.highest[row] = lanes.largest(highest);
            let highest = lanes.splat(-self.highest[row]);
            let factor = lanes.exp(lanes.add(lanes.splat(before), highest));
            self.totals[row] = lanes.mul(self.totals[row], factor);
            for (block, scores) in scores.iter_mut().enumerate() {
                let weights = lanes.exp(lanes.add(lanes.load(scores), highest));
                let weights = lanes.keep_first(weights, in_block(block), 0.0);
                self.totals[row] = lanes.add(self.totals[row], weights);
                lanes.store(weights, scores);
            }
            let mut factors = [0.0; LANES];
            lanes.store(factor, &mut factors);
            factors[0]
        })
    }

    #[inline(always)]
    fn add_values<const W: usize>(&mut self, lanes: L, blocks: &[BlockId], factors: [f32; N]) {
        let vectors = self.cells.width / LANES;
        let mut first = 0;
        while first + W <= vectors {
            self.add_vectors::<W>(lanes, blocks, factors, first);
            first += W;
        }
        while first < vectors {
            self.add_vectors::<1>(lanes, blocks, factors, first);
            first += 1;
        }
    }

    #[inline(always)]
    fn add_vectors<const W: usize>(
        &mut self,
        lanes: L,
        blocks: &[BlockId],
        factors: [f32; N],
        first: usize,
    ) {
        let vectors = self.cells.width / LANES;
        let mut sums: [[L::F; W]; N] = std::array::from_fn(|row| {
            std::array::from_fn(|index| {
                let sum = lanes.load(&self.sums[row * vectors + first + index]);
                lanes.mul(sum, lanes.splat(factors[row]))
            })
        });
        for (block, id) in blocks.iter().enumerate() {
            let start = self.cells.offset(*id, self.kv_head);
            let (values, _) = self.cells.values[start..].as_chunks::<LANES>();
            let values = &values[..vectors * KV_BLOCK_TOKENS];
            for slot in 0..KV_BLOCK_TOKENS {
                let values: [L::F; W] = std::array::from_fn(|index| {
                    T::load(lanes, &values[slot * vectors + first + index])
                });
                for row in 0..N {
                    let weight = lanes.splat(self.scores[row][block][slot]);
                    for index in 0..W {
                        sums[row][index] = lanes.fma(values[index], weight, sums[row][index]);
                    }
                }
            }
        }
        for row in 0..N {
            for index in 0..W {
                lanes.store(
                    sums[row][index],
                    &mut self.sums[row * vectors + first + index],
                );
            }
        }
    }

    #[inline(always)]
    fn finish(&self, lanes: L, row: usize, results: &mut [f32]) {
        let vectors = self.cells.width / LANES;
        let factor = lanes.splat(1.0 / lanes.sum(self.totals[row]));
        let sums = &self.sums[row * vectors..][..vectors];
        for (results, sum) in results.chunks_mut(LANES).zip(sums) {
            let mut values = [0.0; LANES];
            lanes.store(lanes.mul(lanes.load(sum), factor), &mut values);
            results.copy_from_slice(&values[..results.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: attention equals its definition within the precision of f16, at every level bit for bit the
    //! same, and a token's result depends on no other token of the step.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    type NewKv = fn(usize, Heads) -> HostKv;

    struct Case {
        heads: Heads,
        tokens: usize,
        queries: Vec<f32>,
        keys: Vec<f32>,
        values: Vec<f32>,
    }

    impl Case {
        fn random(heads: Heads, tokens: usize) -> Self {
            let mut random = StdRng::seed_from_u64(tokens as u64);
            // What f16 holds exactly.
            let mut values = |count: usize| -> Vec<f32> {
                (0..count * heads.size * tokens)
                    .map(|_| half::f16::from_f32(random.random_range(-2.0..2.0)).to_f32())
                    .collect()
            };
            Self {
                heads,
                tokens,
                queries: values(heads.count),
                keys: values(heads.kv),
                values: values(heads.kv),
            }
        }

        /// Results when the tokens come in pieces of `piece`.
        fn attend(&self, new: NewKv, level: Level, piece: usize) -> Vec<f32> {
            let Heads { count, kv, size } = self.heads;
            let blocks: Vec<BlockId> = (0..self.tokens.div_ceil(KV_BLOCK_TOKENS) as u32)
                .rev()
                .map(BlockId)
                .collect();
            let mut cache = new(blocks.len(), self.heads);
            let mut results = vec![0.0; self.tokens * count * size];
            for position in (0..self.tokens).step_by(piece) {
                let tokens = piece.min(self.tokens - position);
                let spans = [Span {
                    position,
                    tokens,
                    blocks: &blocks,
                }];
                let of = |heads: usize| position * heads * size..(position + tokens) * heads * size;
                cache.write(level, &spans, &self.keys[of(kv)], &self.values[of(kv)]);
                let (queries, results) = (&self.queries[of(count)], &mut results[of(count)]);
                attend(&Pool::new(2), level, &cache, &spans, queries, results);
            }
            results
        }

        fn defined(&self, token: usize, head: usize) -> Vec<f64> {
            let Heads { count, kv, size } = self.heads;
            let kv_head = head / (count / kv);
            let query = &self.queries[(token * count + head) * size..][..size];
            let of = |values: &'_ [f32], other: usize| -> Vec<f64> {
                let values = &values[(other * kv + kv_head) * size..][..size];
                values.iter().map(|&value| f64::from(value)).collect()
            };
            let weights: Vec<f64> = (0..=token)
                .map(|other| {
                    let products = of(&self.keys, other);
                    let products = products.iter().zip(query).map(|(k, &q)| k * f64::from(q));
                    (products.sum::<f64>() / (size as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            let mut result = vec![0.0; size];
            for (other, weight) in weights.iter().enumerate() {
                for (result, value) in result.iter_mut().zip(of(&self.values, other)) {
                    *result += weight / total * value;
                }
            }
            result
        }
    }

    #[test]
    fn attention_equals_the_definition_however_it_is_cut() {
        for (count, kv, size, tokens) in [
            (9, 3, 64, 150),
            (4, 1, 24, 70),
            (32, 1, 16, 40),
            (2, 2, 8, 5),
        ] {
            let case = Case::random(Heads { count, kv, size }, tokens);
            let results = case.attend(HostKv::half, Level::Portable, tokens);
            for token in 0..tokens {
                for head in 0..count {
                    let found = &results[(token * count + head) * size..][..size];
                    for (found, exact) in found.iter().zip(case.defined(token, head)) {
                        assert!((f64::from(*found) - exact).abs() < 1e-5, "{found} {exact}");
                    }
                }
            }
            // The values are such that f16 rounds nothing.
            for new in [HostKv::half as NewKv, HostKv::full] {
                for level in Level::all() {
                    for piece in [1, 7, 64, tokens] {
                        assert!(
                            case.attend(new, level, piece) == results,
                            "{level:?} {piece}"
                        );
                    }
                }
            }
        }
    }
}
