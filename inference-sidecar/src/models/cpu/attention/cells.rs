//! The keys and values of one layer, in blocks.

use super::{Heads, Span};
use crate::models::cpu::lanes::{Kernel, LANES, Lanes, Level};
use crate::models::cpu::stored::Stored;
use crate::models::{BlockId, KV_BLOCK_TOKENS};

/// Keys and values of one layer.
pub(in crate::models) enum HostKv {
    /// In f16.
    Half(Cells<u16>),
    /// In f32: exact, twice as large.
    Full(Cells<f32>),
}

/// A block holds for each kv head the keys, value by value (so that a vector holds one value of all its
/// tokens), and the values, a vector of each token beside those of the others: both in the order in
/// which they are read.
pub(in crate::models) struct Cells<T> {
    keys: Vec<T>,
    values: Vec<T>,
    pub(super) heads: Heads,
}

const _: () = assert!(KV_BLOCK_TOKENS == LANES);

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
        // Zeroed memory comes from the system lazily: blocks that are never used cost nothing.
        let length = blocks * heads.kv * heads.stored_size() * KV_BLOCK_TOKENS;
        Self {
            keys: vec![T::default(); length],
            values: vec![T::default(); length],
            heads,
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
    #[inline(always)]
    fn offset(&self, block: BlockId, head: usize) -> usize {
        (block.0 as usize * self.heads.kv + head) * self.heads.stored_size() * KV_BLOCK_TOKENS
    }

    /// The keys of a head of a block: for each value of a head that of all tokens.
    #[inline(always)]
    pub(super) fn keys(&self, block: BlockId, head: usize) -> &[[T; LANES]] {
        let (keys, _) = self.keys[self.offset(block, head)..].as_chunks();
        &keys[..self.heads.size]
    }

    /// Vector `index` of the values of all tokens under a head of a block.
    #[inline(always)]
    pub(super) fn values(
        &self,
        block: BlockId,
        head: usize,
        index: usize,
    ) -> &[[T; LANES]; KV_BLOCK_TOKENS] {
        let first = self.offset(block, head) + index * LANES * KV_BLOCK_TOKENS;
        let (values, _) = self.values[first..].as_chunks::<LANES>();
        values.first_chunk().expect("blocks are whole")
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
        let heads = self.cells.heads;
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
                    for (to, value) in to.zip(stored(lanes, part)) {
                        *to = value;
                    }
                }
                for (index, part) in values[of_head].chunks(LANES).enumerate() {
                    let first = start + (index * KV_BLOCK_TOKENS + slot) * LANES;
                    let to = &mut self.cells.values[first..][..LANES];
                    to.copy_from_slice(&stored(lanes, part));
                }
            }
        }
    }
}

/// At most sixteen values, filled up with zeros.
#[inline(always)]
fn stored<L: Lanes, T: Stored>(lanes: L, values: &[f32]) -> [T; LANES] {
    let mut filled = [0.0; LANES];
    filled[..values.len()].copy_from_slice(values);
    T::store(lanes, lanes.load(&filled))
}
