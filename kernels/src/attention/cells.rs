//! The keys and values of all layers, in blocks.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use super::{BlockId, Heads, KV_BLOCK_TOKENS, KV_RUN_BLOCKS as RUN};
use crate::lanes::{Kernel, LANES, Lanes};
use crate::pages::{Arena, NoMemory, Pages};
use crate::parts::Parted;
use crate::prefetch::prefetch;
use crate::stored::{HEAD_SIZE_MAX, Stored, largest_size};

/// Keys and values of a pool of blocks.
pub struct HostKv(pub(super) AnyCells);

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvFormat {
    /// Exact.
    F32,
    /// Rounded, and bounded to its largest number.
    F16,
    /// Whole numbers of 8 bits: the keys of a token's head share a scale (f32), as do its values.
    Int8,
}

pub(super) enum AnyCells {
    Full(Cells<f32>),
    Half(Cells<u16>),
    Byte(Cells<u8>),
}

/// Does the same with the cells of each format.
macro_rules! with_cells {
    ($cells:expr, $name:ident => $work:expr) => {
        match $cells {
            AnyCells::Full($name) => $work,
            AnyCells::Half($name) => $work,
            AnyCells::Byte($name) => $work,
        }
    };
}
pub(super) use with_cells;

/// Sixteen neighbouring blocks are a *run*, which holds the cells of all layers and heads, so that a pool that
/// is little used takes little memory. For each head of a layer it has the keys of its blocks, then their
/// values, then the scales of both. Keys lie value by value, so that a vector holds one value of all tokens of a
/// block, beside it the vectors of three neighbouring blocks; values lie token by token. Of bytes, four values of a
/// key take the place of one, and of the values those of four tokens. So a sequence in neighbouring blocks is read
/// from end to end as two streams, which the processor foresees.
pub(super) struct Cells<T> {
    cells: Pages<T>,
    places: Places,
}

/// Where cells lie.
#[derive(Clone, Copy)]
struct Places {
    layers: usize,
    heads: Heads,
    /// Cells of the keys of a head of a block, as of the values.
    block: usize,
    /// Cells of the scales of either.
    scales: usize,
    /// Values that lie together in a lane.
    together: usize,
}

/// The cells of a head of a block.
struct HeadPlaces {
    /// The first vector of the keys; that of the next values is [`BESIDE`] vectors of values that lie together behind.
    keys: usize,
    values: Range<usize>,
    key_scales: Range<usize>,
    value_scales: Range<usize>,
}

/// One layer.
pub(super) struct Layer<'a, T> {
    cells: &'a [T],
    places: Places,
    index: usize,
}

/// Blocks whose keys lie beside each other.
pub(crate) const BESIDE: usize = 4;

const _: () = assert!(KV_BLOCK_TOKENS == LANES);

impl HostKv {
    /// A pool of zeros.
    pub fn new(
        format: KvFormat,
        layers: usize,
        blocks: usize,
        heads: Heads,
    ) -> Result<Self, NoMemory> {
        assert!(heads.size <= HEAD_SIZE_MAX);
        Ok(Self(match format {
            KvFormat::F32 => AnyCells::Full(Cells::new(layers, blocks, heads)?),
            KvFormat::F16 => AnyCells::Half(Cells::new(layers, blocks, heads)?),
            KvFormat::Int8 => AnyCells::Byte(Cells::new(layers, blocks, heads)?),
        }))
    }
}

impl KvFormat {
    /// Bytes of a block.
    pub fn block_bytes(self, layers: usize, heads: Heads) -> usize {
        let cells = match self {
            Self::F32 => size_of::<f32>() * Places::new::<f32>(layers, heads).run(),
            Self::F16 => size_of::<u16>() * Places::new::<u16>(layers, heads).run(),
            Self::Int8 => Places::new::<u8>(layers, heads).run(),
        };
        cells / RUN
    }
}

impl Places {
    fn new<T: Stored>(layers: usize, heads: Heads) -> Self {
        Self {
            layers,
            heads,
            block: KV_BLOCK_TOKENS * heads.stored_size(),
            scales: KV_BLOCK_TOKENS * T::SCALE,
            together: T::TOGETHER,
        }
    }

    /// Cells of a head of a run.
    fn head(self) -> usize {
        2 * RUN * (self.block + self.scales)
    }

    /// Cells of a run.
    fn run(self) -> usize {
        self.layers * self.heads.kv * self.head()
    }

    #[inline(always)]
    fn find(self, layer: usize, block: BlockId, head: usize) -> HeadPlaces {
        let (run, index) = (block.0 as usize / RUN, block.0 as usize % RUN);
        let start = ((run * self.layers + layer) * self.heads.kv + head) * self.head();
        let part = |start: usize, size: usize| start + index * size..start + (index + 1) * size;
        let values = start + RUN * self.block;
        let scales = values + RUN * self.block;
        let group = start + index / BESIDE * BESIDE * self.block;
        HeadPlaces {
            keys: group + index % BESIDE * LANES * self.together,
            values: part(values, self.block),
            key_scales: part(scales, self.scales),
            value_scales: part(scales + RUN * self.scales, self.scales),
        }
    }
}

impl<T: Stored> Cells<T> {
    fn new(layers: usize, blocks: usize, heads: Heads) -> Result<Self, NoMemory> {
        let places = Places::new::<T>(layers, heads);
        // Places are worked out without checks of overflow, so cells that cannot be counted are refused here.
        let run = layers.checked_mul(heads.kv);
        let run = run.and_then(|count| count.checked_mul(places.head()));
        let length = run.and_then(|run| run.checked_mul(blocks.div_ceil(RUN)));
        let length = length.unwrap_or(usize::MAX);
        Ok(Self {
            cells: Arena::default().take(length)?,
            places,
        })
    }

    pub(super) fn layer(&self, index: usize) -> Layer<'_, T> {
        assert!(index < self.places.layers);
        Layer {
            cells: &self.cells,
            places: self.places,
            index,
        }
    }

    /// The cells of each head of a layer in some blocks, in ascending order, block by block.
    pub(super) fn picked<'a>(&'a mut self, layer: usize, blocks: &'a [BlockId]) -> Picked<'a, T> {
        assert!(layer < self.places.layers);
        assert!(blocks.is_sorted_by(|a, b| a < b));
        let last = blocks.last().map_or(0, |block| block.0 as usize);
        assert!((last / RUN + 1) * self.places.run() <= self.cells.len());
        Picked {
            start: self.cells.as_mut_ptr(),
            places: self.places,
            layer,
            blocks,
            cells: PhantomData,
        }
    }
}

/// The cells that are written to in a step.
pub(super) struct Picked<'a, T> {
    start: *mut T,
    places: Places,
    layer: usize,
    blocks: &'a [BlockId],
    cells: PhantomData<&'a mut [T]>,
}

/// Of a head of a block.
pub(super) struct HeadCells<'a, T> {
    pub heads: Heads,
    keys: KeyCells<'a, T>,
    /// A whole block.
    values: &'a mut [T],
    key_scales: &'a mut [T],
    value_scales: &'a mut [T],
}

/// The keys of a head of a block, between those of its neighbours.
struct KeyCells<'a, T> {
    start: *mut T,
    /// Values of a head.
    size: usize,
    cells: PhantomData<&'a mut [T]>,
}

impl<T: Stored> KeyCells<'_, T> {
    /// Stores values of the token in a slot, from value `first` on.
    #[inline(always)]
    fn set(&mut self, first: usize, slot: usize, keys: &[T]) {
        assert!(first + keys.len() <= self.size && slot < KV_BLOCK_TOKENS);
        for (index, key) in (first..).zip(keys) {
            let (group, place) = (index / T::TOGETHER, index % T::TOGETHER);
            let cell = (group * BESIDE * LANES + slot) * T::TOGETHER + place;
            // SAFETY: a cell of this head and block, which nothing else has.
            unsafe { self.start.add(cell).write(*key) };
        }
    }
}

// SAFETY: the cells of different heads and blocks do not overlap, and each are handed out once.
unsafe impl<T: Stored> Sync for Picked<'_, T> {}

impl<'a, T: Stored> Parted for Picked<'a, T> {
    /// Index of the block, the head, their cells.
    type Part = (usize, usize, HeadCells<'a, T>);

    fn count(&self) -> usize {
        self.blocks.len() * self.places.heads.kv
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        let heads = self.places.heads;
        let (block, head) = (index / heads.kv, index % heads.kv);
        let places = self.places.find(self.layer, self.blocks[block], head);
        let cells = |place: Range<usize>| {
            // SAFETY: within the cells, since the last block is; nothing else has these.
            unsafe { slice::from_raw_parts_mut(self.start.add(place.start), place.len()) }
        };
        let cells = HeadCells {
            heads,
            keys: KeyCells {
                // SAFETY: as above.
                start: unsafe { self.start.add(places.keys) },
                size: heads.size,
                cells: PhantomData,
            },
            values: cells(places.values),
            key_scales: cells(places.key_scales),
            value_scales: cells(places.value_scales),
        };
        (block, head, cells)
    }
}

impl<'a, T: Stored> Layer<'a, T> {
    pub(super) fn heads(&self) -> Heads {
        self.places.heads
    }

    /// The keys of a head of a block, and what lies between them: each [`BESIDE`]th vector has a value of all
    /// tokens, or as many vectors side by side as many values that lie together.
    #[inline(always)]
    pub(super) fn keys(&self, block: BlockId, head: usize) -> &'a [[T; LANES]] {
        let places = self.places.find(self.index, block, head);
        let (vectors, _) = self.cells[places.keys..].as_chunks();
        let groups = self.places.heads.size.div_ceil(T::TOGETHER);
        &vectors[..(groups * BESIDE - (BESIDE - 1)) * T::TOGETHER]
    }

    /// The values of all tokens under a head of a block, token by token, or as many tokens by as many as lie
    /// together.
    #[inline(always)]
    pub(super) fn values(&self, block: BlockId, head: usize) -> &'a [[T; LANES]] {
        let places = self.places.find(self.index, block, head);
        self.cells[places.values].as_chunks().0
    }

    /// Asks for what `scales` returns: it lies apart from what is read in between.
    #[inline(always)]
    pub(super) fn prefetch_scales(&self, block: BlockId, head: usize) {
        if T::SCALE > 0 {
            let (of_keys, of_values) = self.scales(block, head);
            prefetch(of_keys, 0, size_of_val(of_keys));
            prefetch(of_values, 0, size_of_val(of_values));
        }
    }

    /// The scales of the keys of a head of a block, and those of the values.
    #[inline(always)]
    pub(super) fn scales(&self, block: BlockId, head: usize) -> (&'a [T], &'a [T]) {
        let places = self.places.find(self.index, block, head);
        (
            &self.cells[places.key_scales],
            &self.cells[places.value_scales],
        )
    }
}

/// Stores the keys and values of neighbouring tokens in a head of a block.
pub(super) struct WriteHead<'a, T> {
    pub cells: HeadCells<'a, T>,
    pub head: usize,
    /// Of the first token.
    pub slot: usize,
    /// Tokens × kv heads × head size.
    pub keys: &'a [f32],
    pub values: &'a [f32],
}

impl<T: Stored> Kernel for WriteHead<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let heads = self.cells.heads;
        let row = heads.kv * heads.size;
        let first = self.head * heads.size;
        let rows = self
            .keys
            .chunks_exact(row)
            .zip(self.values.chunks_exact(row));
        let mut cells = self.cells;
        for (slot, (keys, values)) in (self.slot..).zip(rows) {
            let (keys, values) = (&keys[first..][..heads.size], &values[first..][..heads.size]);
            write_keys(lanes, keys, &mut cells.keys, cells.key_scales, slot);
            write_values(lanes, values, cells.values, cells.value_scales, slot);
        }
    }
}

#[inline(always)]
fn write_keys<L: Lanes, T: Stored>(
    lanes: L,
    keys: &[f32],
    cells: &mut KeyCells<'_, T>,
    scales: &mut [T],
    slot: usize,
) {
    let inverse = scale::<L, T>(lanes, keys, scales, slot);
    for (vector, keys) in keys.chunks(LANES).enumerate() {
        let values = scaled::<L, T>(lanes, keys, inverse);
        let stored = T::store_key(lanes, values);
        cells.set(vector * LANES, slot, &stored[..keys.len()]);
    }
}

#[inline(always)]
fn write_values<L: Lanes, T: Stored>(
    lanes: L,
    values: &[f32],
    cells: &mut [T],
    scales: &mut [T],
    slot: usize,
) {
    let inverse = scale::<L, T>(lanes, values, scales, slot);
    let width = cells.len() / KV_BLOCK_TOKENS;
    let (group, place) = (slot / T::TOGETHER, slot % T::TOGETHER);
    let cells = &mut cells[group * width * T::TOGETHER..][..width * T::TOGETHER];
    for (values, cells) in values
        .chunks(LANES)
        .zip(cells.chunks_mut(LANES * T::TOGETHER))
    {
        let stored = T::store(lanes, scaled::<L, T>(lanes, values, inverse));
        for (cell, value) in cells[place..].iter_mut().step_by(T::TOGETHER).zip(stored) {
            *cell = value;
        }
    }
}

/// Stores the scale of the values, and returns its inverse.
#[inline(always)]
fn scale<L: Lanes, T: Stored>(lanes: L, values: &[f32], scales: &mut [T], slot: usize) -> f32 {
    if T::SCALE == 0 {
        return 1.0;
    }
    T::store_scale(largest_size(lanes, values), scales, slot)
}

/// At most sixteen values times a factor, filled up with zeros.
#[inline(always)]
fn scaled<L: Lanes, T: Stored>(lanes: L, values: &[f32], factor: f32) -> L::F {
    let values = lanes.load_part(values);
    match T::SCALE {
        0 => values,
        _ => lanes.mul(values, lanes.splat(factor)),
    }
}
