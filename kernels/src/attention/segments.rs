//! Query rows under the segments of a sequence.
//!
//! Sums stay in registers only where both of their indices are constants of an unrolled loop, and
//! closures around the operations of a level are compiled without its instructions: hence the loops.

#![allow(clippy::needless_range_loop)]

use super::cells::Layer;
use super::softmax::{Factors, Peak};
use super::{BlockId, KV_BLOCK_TOKENS, Piece, SEGMENT, SEGMENT_BLOCKS};
use crate::lanes::{Kernel, LANES, Lanes};
use crate::stored::Stored;

/// Computes a piece.
pub(super) struct Segments<'a, T> {
    pub cells: &'a Layer<'a, T>,
    /// Of the sequence.
    pub blocks: &'a [BlockId],
    /// Of the tokens of the piece: tokens × heads × head size.
    pub queries: &'a [f32],
    pub piece: &'a Piece,
    /// Query rows × values of a row.
    pub partials: &'a mut [f32],
}

impl<T: Stored> Kernel for Segments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let rows = self.piece.tokens * self.cells.heads().group();
        let mut first = 0;
        // As many sums at once as there are registers for; all sizes give the same results.
        while first < rows {
            let left = rows - first;
            first += match L::SUMS / T::SUMS {
                24.. => match left {
                    12.. => self.rows::<L, 12, 2>(lanes, first),
                    8.. => self.rows::<L, 8, 2>(lanes, first),
                    6.. => self.rows::<L, 6, 4>(lanes, first),
                    4.. => self.rows::<L, 4, 4>(lanes, first),
                    3 => self.rows::<L, 3, 4>(lanes, first),
                    _ => self.rows::<L, 1, 4>(lanes, first),
                },
                12.. => match left {
                    6.. => self.rows::<L, 6, 2>(lanes, first),
                    3.. => self.rows::<L, 3, 4>(lanes, first),
                    _ => self.rows::<L, 1, 4>(lanes, first),
                },
                6.. => match left {
                    4 | 5 | 8 => self.rows::<L, 4, 1>(lanes, first),
                    6.. => self.rows::<L, 6, 1>(lanes, first),
                    3 => self.rows::<L, 3, 1>(lanes, first),
                    _ => self.rows::<L, 1, 4>(lanes, first),
                },
                3.. => match left {
                    3.. => self.rows::<L, 3, 1>(lanes, first),
                    _ => self.rows::<L, 1, 1>(lanes, first),
                },
                _ => self.rows::<L, 1, 1>(lanes, first),
            };
        }
    }
}

impl<T: Stored> Segments<'_, T> {
    /// Computes `N` rows, `W` vectors at once; returns `N`.
    #[inline(always)]
    fn rows<L: Lanes, const N: usize, const W: usize>(&mut self, lanes: L, first: usize) -> usize {
        let (heads, piece) = (self.cells.heads(), self.piece);
        let group = heads.group();
        let mut rows = Rows {
            cells: self.cells,
            kv_head: piece.kv_head,
            queries: [T::no_query(); N],
            seen: [0; N],
            scores: [[[0.0; LANES]; SEGMENT_BLOCKS]; N],
        };
        for row in 0..N {
            let (token, head) = ((first + row) / group, (first + row) % group);
            let head = token * heads.count + piece.kv_head * group + head;
            let query = &self.queries[head * heads.size..][..heads.size];
            T::set_query(lanes, query, &mut rows.queries[row]);
            rows.seen[row] = piece.position + token + 1;
        }
        let blocks = &self.blocks[..rows.seen[N - 1].div_ceil(KV_BLOCK_TOKENS)];
        let size = heads.partial_size();
        let partials = &mut self.partials[first * size..][..N * size];
        let (from, to) = piece.segments;
        for segment in from..to {
            // Earlier tokens of the piece may end before its last segment, and rows beside them not.
            let start = (segment * SEGMENT_BLOCKS).min(blocks.len());
            let blocks = &blocks[start..(start + SEGMENT_BLOCKS).min(blocks.len())];
            rows.segment::<L, W>(lanes, segment, blocks, (segment == from, &mut *partials));
        }
        N
    }
}

/// Query rows that meet the same keys and values.
struct Rows<'a, T: Stored, const N: usize> {
    cells: &'a Layer<'a, T>,
    kv_head: usize,
    queries: [T::Query<'a>; N],
    /// Positions that each row sees, from the start of the sequence.
    seen: [usize; N],
    /// Of the positions of this segment; after `normalise` their weights, as they meet values.
    scores: [[[f32; LANES]; SEGMENT_BLOCKS]; N],
}

impl<T: Stored, const N: usize> Rows<'_, T, N> {
    /// Joins a segment to those before, or begins with it.
    #[inline(always)]
    fn segment<L: Lanes, const W: usize>(
        &mut self,
        lanes: L,
        segment: usize,
        blocks: &[BlockId],
        (begins, partials): (bool, &mut [f32]),
    ) {
        for block in blocks {
            self.cells.prefetch_scales(*block, self.kv_head);
        }
        let mut block = 0;
        while block + W <= blocks.len() {
            self.score::<L, W>(lanes, blocks, block);
            block += W;
        }
        while block < blocks.len() {
            self.score::<L, 1>(lanes, blocks, block);
            block += 1;
        }
        let width = self.cells.heads().stored_size();
        let size = self.cells.heads().partial_size();
        let mut factors = [None; N];
        for row in 0..N {
            let partial = &mut partials[row * size..][..size];
            let mut peak = self.normalise(lanes, row, segment * SEGMENT, blocks);
            if !begins {
                let (joined, both) = Peak::read(partial, width).join(lanes, peak);
                (peak, factors[row]) = (joined, Some(both));
            }
            peak.write(partial, width);
        }
        let mut vector = 0;
        while vector + W <= width / LANES {
            self.add_values::<L, W>(lanes, blocks, vector, (&factors, &mut *partials));
            vector += W;
        }
        while vector < width / LANES {
            self.add_values::<L, 1>(lanes, blocks, vector, (&factors, &mut *partials));
            vector += 1;
        }
    }

    /// The scores of `W` blocks.
    #[inline(always)]
    fn score<L: Lanes, const W: usize>(&mut self, lanes: L, blocks: &[BlockId], first: usize) {
        let size = self.cells.heads().size;
        let mut keys: [&[[T; LANES]]; W] = [&[]; W];
        for index in 0..W {
            keys[index] = self.cells.keys(blocks[first + index], self.kv_head);
        }
        let sums = T::scores::<L, N, W>(lanes, keys, &self.queries, size);
        let root = lanes.splat(1.0 / (size as f32).sqrt());
        let mut scales = [root; W];
        if T::SCALE > 0 {
            for index in 0..W {
                let (of_keys, _) = self.cells.scales(blocks[first + index], self.kv_head);
                scales[index] = lanes.mul(root, T::load_scales(lanes, of_keys));
            }
        }
        for row in 0..N {
            for index in 0..W {
                let scores = lanes.mul(sums[row][index], scales[index]);
                lanes.store(scores, &mut self.scores[row][first + index]);
            }
        }
    }

    /// Turns the scores of a row into weights, and those into what the stored values are multiplied by.
    #[inline(always)]
    fn normalise<L: Lanes>(
        &mut self,
        lanes: L,
        row: usize,
        position: usize,
        blocks: &[BlockId],
    ) -> Peak {
        let seen = self.seen[row].saturating_sub(position);
        let scores = &mut self.scores[row][..blocks.len()];
        let mut highest = lanes.splat(f32::NEG_INFINITY);
        for block in 0..blocks.len() {
            let left = seen.saturating_sub(block * KV_BLOCK_TOKENS);
            let scores = lanes.load(&scores[block]);
            let scores = lanes.keep_first(scores, left, f32::NEG_INFINITY);
            highest = lanes.max(highest, scores);
        }
        let highest = lanes.largest(highest);
        let minus = lanes.splat(-highest);
        let mut total = lanes.splat(0.0);
        for block in 0..blocks.len() {
            let left = seen.saturating_sub(block * KV_BLOCK_TOKENS);
            let weights = lanes.exp(lanes.add(lanes.load(&scores[block]), minus));
            let weights = lanes.keep_first(weights, left, 0.0);
            total = lanes.add(total, weights);
            let weights = match T::SCALE {
                0 => weights,
                _ => {
                    let (_, of_values) = self.cells.scales(blocks[block], self.kv_head);
                    lanes.mul(weights, T::load_scales(lanes, of_values))
                }
            };
            lanes.store(weights, &mut scores[block]);
        }
        T::weigh(lanes, scores);
        let total = lanes.sum(total);
        Peak { highest, total }
    }

    /// Sums `W` vectors of the values, each by its weight.
    #[inline(always)]
    fn add_values<L: Lanes, const W: usize>(
        &self,
        lanes: L,
        blocks: &[BlockId],
        first: usize,
        (factors, partials): (&[Option<Factors<L>>; N], &mut [f32]),
    ) {
        let mut sums = [[lanes.splat(0.0); W]; N];
        let of_token = self.cells.heads().stored_size() / LANES;
        for (block, id) in blocks.iter().enumerate() {
            let values = self.cells.values(*id, self.kv_head);
            let mut weights = [&self.scores[0][block]; N];
            for row in 1..N {
                weights[row] = &self.scores[row][block];
            }
            let values = &values[first * T::TOGETHER..];
            sums = T::add_block(lanes, values, of_token, weights, sums);
        }
        let size = self.cells.heads().partial_size();
        for row in 0..N {
            for index in 0..W {
                let (to, _) = partials[row * size + (first + index) * LANES..].as_chunks_mut();
                let to: &mut [f32; LANES] = &mut to[0];
                let sum = match factors[row] {
                    Some(factors) => factors.join(lanes, lanes.load(to), sums[row][index]),
                    None => sums[row][index],
                };
                lanes.store(sum, to);
            }
        }
    }
}
