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

pub(in crate::models) use cells::HostKv;

use super::lanes::{LANES, Level, filled};
use super::parts::Chunks;
use super::pool::Pool;
use super::stored::Stored;
use crate::models::{BlockId, KV_BLOCK_TOKENS};
use cells::Cells;
use segments::Segments;
use softmax::Finish;

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
pub(in crate::models) struct Span<'a> {
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

/// The work of a step and what its pieces found; kept for the next step.
#[derive(Default)]
pub(in crate::models) struct Attention {
    /// Values of a piece among `partials`.
    piece_size: usize,
    pieces: Vec<Piece>,
    tokens: Vec<Token>,
    /// For each piece its query rows: the sum of the weighted values, the highest score and the sum of
    /// the weights (see `softmax`).
    partials: Vec<f32>,
}

/// Neighbouring tokens of a span under the query heads of one group, in neighbouring segments.
struct Piece {
    span: usize,
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
    pub(in crate::models) fn stored_size(self) -> usize {
        filled(self.size)
    }

    /// Values of a query row among the partial results.
    fn partial_size(self) -> usize {
        self.stored_size() + LANES
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

impl Attention {
    /// Results for tokens × heads × head size queries: each token sees its own and all earlier
    /// positions.
    pub(in crate::models) fn attend(
        &mut self,
        (pool, level): (&Pool, Level),
        cache: &HostKv,
        spans: &[Span<'_>],
        queries: &[f32],
        results: &mut [f32],
    ) {
        match cache {
            HostKv::Half(cells) => self.attend_cells(pool, level, cells, spans, queries, results),
            HostKv::Full(cells) => self.attend_cells(pool, level, cells, spans, queries, results),
        }
    }

    fn attend_cells<T: Stored>(
        &mut self,
        pool: &Pool,
        level: Level,
        cells: &Cells<T>,
        spans: &[Span<'_>],
        queries: &[f32],
        results: &mut [f32],
    ) {
        let heads = cells.heads;
        let row = heads.count * heads.size;
        self.plan(pool.threads(), heads, spans);
        let piece = self.piece_size;
        let partials = Chunks::new(&mut self.partials, piece);
        let pieces = &self.pieces;
        pool.for_each(partials, |index, partials| {
            let piece = &pieces[index];
            level.run(Segments {
                cells,
                blocks: spans[piece.span].blocks,
                queries: &queries[piece.first_row * row..][..piece.tokens * row],
                piece,
                partials,
            });
        });
        let partials = &self.partials;
        let tokens = &self.tokens;
        pool.for_each(Chunks::new(results, row), |index, results| {
            let token = &tokens[index];
            level.run(Finish {
                heads,
                token,
                piece_size: piece,
                partials: &partials[token.piece * piece..],
                results,
            });
        });
    }

    fn plan(&mut self, threads: usize, heads: Heads, spans: &[Span<'_>]) {
        self.pieces.clear();
        self.tokens.clear();
        for (index, span) in spans.iter().enumerate() {
            // A few tiles alone would not keep all threads busy.
            let tiles = span.tokens.div_ceil(heads.tile());
            let is_cut = tiles * heads.kv < threads * PIECES;
            for first in (0..span.tokens).step_by(heads.tile()) {
                self.plan_tile(heads, (index, span), first, is_cut);
            }
        }
        let tokens = self.pieces.iter().map(|piece| piece.tokens).max();
        self.piece_size = tokens.unwrap_or(1) * heads.group() * heads.partial_size();
        self.partials
            .resize(self.pieces.len() * self.piece_size, 0.0);
    }

    /// The tokens of a span from `first` on, as many as a piece has.
    fn plan_tile(
        &mut self,
        heads: Heads,
        (span, all): (usize, &Span<'_>),
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
                span,
                first_row,
                position,
                tokens,
                kv_head,
                segments: (segment, segment + step),
            });
            self.pieces.extend(pieces);
        }
    }
}
