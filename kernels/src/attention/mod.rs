//! Causal attention over the blocks of a sequence.
//!
//! The positions of a sequence are cut in segments of 256, counted from its start. Each segment has a
//! softmax of its own; segments are joined in their order (as in FlashDecoding; the rule of joining is
//! that of Milakov and Gimelshein, arXiv 1805.02867). So a token's result depends neither on which
//! other tokens are computed beside it nor on how the work is cut: a step of few tokens is cut by
//! segments, so that all threads have work, one of many tokens by tokens. Query heads that share keys
//! and values, and neighbouring tokens, read them once.
//!
//! - `cells`: how keys and values lie in memory
//! - `segments`: query rows under the segments of a sequence
//! - `softmax`: how segments are joined

mod cells;
mod segments;
mod softmax;
#[cfg(test)]
mod tests;

pub(crate) use cells::BESIDE;
pub use cells::{HostKv, KvFormat};

use std::ops::Range;

use super::lanes::{LANES, Level, filled};
use super::parts::Chunks;
use super::pool::Pool;
use super::stored::Stored;
use cells::{AnyCells, Cells, Layer, WriteHead, with_cells};
use segments::Segments;
use softmax::Finish;

/// Tokens whose keys and values one block holds.
pub const KV_BLOCK_TOKENS: usize = 16;

/// Neighbouring blocks, from a multiple of this number on, that a text is read from fastest.
pub const KV_RUN_BLOCKS: usize = 16;

/// A block of the pool of keys and values, in all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// The heads of a model; `count` is a multiple of `kv`.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub kv: usize,
    /// Values of one head.
    pub size: usize,
}

/// The new tokens of one sequence.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    pub position: usize,
    pub tokens: usize,
    pub blocks: &'a [BlockId],
}

/// Blocks whose scores are normalised together.
const SEGMENT_BLOCKS: usize = 16;
/// Positions of a segment.
const SEGMENT: usize = SEGMENT_BLOCKS * KV_BLOCK_TOKENS;
/// Query rows (tokens × heads of a group) of a piece of work.
const ROWS: usize = 12;

/// Pieces of work for each thread, so that one that is slow holds the others up only briefly.
const PIECES: usize = 4;

/// The attention of a step: what is to be done in each layer, and what the pieces of a layer found. Kept for
/// the next step.
#[derive(Default)]
pub struct Attention {
    /// Of all spans, one after the other.
    blocks: Vec<BlockId>,
    /// The blocks that are written to, in their order, and what to each.
    written: Vec<BlockId>,
    writes: Vec<BlockWrite>,
    /// Values of a piece among `partials`.
    piece_size: usize,
    pieces: Vec<Piece>,
    tokens: Vec<Token>,
    /// For each piece its query rows: the sum of the weighted values, the highest score and the sum of
    /// the weights (see `softmax`).
    partials: Vec<f32>,
}

/// Neighbouring tokens of a span in one block.
struct BlockWrite {
    block: BlockId,
    /// Of the first token.
    slot: usize,
    /// Of the first token among all of the step.
    first_row: usize,
    tokens: usize,
}

/// Neighbouring tokens of a span under the query heads of one group, in neighbouring segments.
struct Piece {
    /// The blocks of its sequence, among all.
    blocks: Range<usize>,
    /// Of the first token among all of the step.
    first_row: usize,
    /// Of the first token in its sequence.
    position: usize,
    tokens: usize,
    kv_head: usize,
    /// The first one, and the one after the last.
    segments: (usize, usize),
}

/// Where the results of a token are.
struct Token {
    /// The piece with its first kv head and first segment; its other segments follow, then the other
    /// kv heads.
    piece: usize,
    /// Pieces of one kv head.
    pieces: usize,
    /// Among the tokens of the pieces.
    index: usize,
}

impl Heads {
    /// Query heads that share keys and values.
    fn group(self) -> usize {
        self.count / self.kv
    }

    /// Tokens of a piece.
    fn tile(self) -> usize {
        (ROWS / self.group()).max(1)
    }

    /// Values of a head of keys or values, filled up to whole vectors.
    fn stored_size(self) -> usize {
        filled(self.size)
    }

    /// Values of a query row among the partial results.
    fn partial_size(self) -> usize {
        self.stored_size() + LANES
    }
}

impl Attention {
    /// Takes up the tokens of a step, for all layers. No block is written to by two spans.
    pub fn plan(&mut self, pool: &Pool, heads: Heads, spans: &[Span<'_>]) {
        self.blocks.clear();
        self.writes.clear();
        self.pieces.clear();
        self.tokens.clear();
        for span in spans {
            let first = self.blocks.len();
            self.blocks.extend_from_slice(span.blocks);
            self.plan_writes(span);
            // A few tiles alone would not keep all threads busy.
            let tiles = span.tokens.div_ceil(heads.tile());
            let is_cut = tiles * heads.kv < pool.threads() * PIECES;
            for first_token in (0..span.tokens).step_by(heads.tile()) {
                let blocks = first..self.blocks.len();
                self.plan_tile(heads, span, blocks, first_token, is_cut);
            }
        }
        self.writes.sort_unstable_by_key(|write| write.block);
        self.written.clear();
        self.written
            .extend(self.writes.iter().map(|write| write.block));
        let tokens = self.pieces.iter().map(|piece| piece.tokens).max();
        self.piece_size = tokens.unwrap_or(1) * heads.group() * heads.partial_size();
        self.partials
            .resize(self.pieces.len() * self.piece_size, 0.0);
    }

    fn plan_writes(&mut self, span: &Span<'_>) {
        let (mut position, end) = (span.position, span.position + span.tokens);
        let first_row = self.tokens.len();
        while position < end {
            let slot = position % KV_BLOCK_TOKENS;
            let tokens = (KV_BLOCK_TOKENS - slot).min(end - position);
            self.writes.push(BlockWrite {
                block: span.blocks[position / KV_BLOCK_TOKENS],
                slot,
                first_row: first_row + position - span.position,
                tokens,
            });
            position += tokens;
        }
    }

    /// The tokens of a span from `first` on, as many as a piece has.
    fn plan_tile(
        &mut self,
        heads: Heads,
        all: &Span<'_>,
        blocks: Range<usize>,
        first: usize,
        is_cut: bool,
    ) {
        let tokens = heads.tile().min(all.tokens - first);
        let position = all.position + first;
        let segments = (position + tokens).div_ceil(SEGMENT);
        let step = if is_cut { 1 } else { segments };
        let (first_row, piece) = (self.tokens.len(), self.pieces.len());
        let pieces = segments.div_ceil(step);
        self.tokens.extend((0..tokens).map(|index| Token {
            piece,
            pieces,
            index,
        }));
        for kv_head in 0..heads.kv {
            let pieces = (0..segments).step_by(step).map(|segment| Piece {
                blocks: blocks.clone(),
                first_row,
                position,
                tokens,
                kv_head,
                segments: (segment, segment + step),
            });
            self.pieces.extend(pieces);
        }
    }

    /// Stores the keys and values of the planned tokens (tokens × kv heads × head size) in a layer.
    pub fn write(
        &self,
        (pool, level): (&Pool, Level),
        cache: &mut HostKv,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        with_cells!(&mut cache.0, cells => self.write_cells(pool, level, cells, layer, keys, values));
    }

    fn write_cells<T: Stored>(
        &self,
        pool: &Pool,
        level: Level,
        cells: &mut Cells<T>,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let writes = &self.writes;
        let parts = cells.picked(layer, &self.written);
        pool.for_each(parts, |_, (block, head, cells)| {
            let write = &writes[block];
            let row = cells.heads.kv * cells.heads.size;
            let rows = write.first_row * row..(write.first_row + write.tokens) * row;
            level.run(WriteHead {
                cells,
                head,
                slot: write.slot,
                keys: &keys[rows.clone()],
                values: &values[rows],
            });
        });
    }

    /// Computes the queries of the planned tokens (tokens × heads × head size) in a layer: each token sees its
    /// own and all earlier positions. `result` has what came of it.
    pub fn attend(
        &mut self,
        (pool, level): (&Pool, Level),
        cache: &HostKv,
        layer: usize,
        queries: &[f32],
    ) {
        with_cells!(&cache.0, cells => self.attend_cells(pool, level, cells.layer(layer), queries));
    }

    fn attend_cells<T: Stored>(
        &mut self,
        pool: &Pool,
        level: Level,
        cells: Layer<'_, T>,
        queries: &[f32],
    ) {
        let row = cells.heads().count * cells.heads().size;
        let partials = Chunks::new(&mut self.partials, self.piece_size);
        let (pieces, blocks) = (&self.pieces, &self.blocks);
        pool.for_each(partials, |index, partials| {
            let piece = &pieces[index];
            level.run(Segments {
                cells: &cells,
                blocks: &blocks[piece.blocks.clone()],
                queries: &queries[piece.first_row * row..][..piece.tokens * row],
                piece,
                partials,
            });
        });
    }

    /// The result of a token (heads × head size) after `attend`.
    pub fn result(&self, level: Level, heads: Heads, token: usize, results: &mut [f32]) {
        let token = &self.tokens[token];
        level.run(Finish {
            heads,
            token,
            piece_size: self.piece_size,
            partials: &self.partials[token.piece * self.piece_size..],
            results,
        });
    }
}
