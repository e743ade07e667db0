//! Activations in 8 bits, as GGML's Q8_1: 32 values share a scale, which stays an f32 here.

use super::lanes::{Kernel, LANES, Lanes, Level};
use super::packed::BLOCK;
use super::parts::Chunks;
use super::pool::Pool;

/// Rows that lie side by side, block by block: a kernel reads all of them through one pointer.
pub(super) const GROUP: usize = 8;

/// Rows of quantised activations; the buffer is kept from step to step.
#[derive(Default)]
pub struct QuantizedRows {
    rows: usize,
    columns: usize,
    /// Group by group, in each block by block.
    blocks: Vec<Block>,
}

/// 32 columns of a group of rows; what belongs to rows that the last group lacks is undefined.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
pub(super) struct Block {
    /// Bits of signed bytes from -127 to 127, four at a time.
    pub quants: [[[u8; 4]; BLOCK / 4]; GROUP],
    pub scales: [f32; GROUP],
    /// The sum of the quants, negated.
    pub minus_sums: [i32; GROUP],
    /// Of each half of the columns.
    pub minus_halves: [[i32; GROUP]; 2],
    /// The sum of the quants times the scale.
    pub scaled_sums: [f32; GROUP],
}

impl QuantizedRows {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The blocks of a group of rows.
    pub(super) fn group(&self, index: usize) -> &[Block] {
        let blocks = self.columns / BLOCK;
        &self.blocks[index * blocks..][..blocks]
    }

    /// Replaces all rows; `columns` is a multiple of 32.
    pub fn set(&mut self, pool: &Pool, level: Level, values: &[f32], columns: usize) {
        assert!(columns.is_multiple_of(BLOCK) && values.len().is_multiple_of(columns));
        self.columns = columns;
        self.rows = values.len() / columns;
        let blocks = columns / BLOCK;
        let length = self.rows.div_ceil(GROUP) * blocks;
        self.blocks.resize(length, Block::default());
        pool.for_each(Chunks::new(&mut self.blocks, blocks), |group, blocks| {
            let values = &values[group * GROUP * columns..];
            level.run(Quantize {
                values: &values[..values.len().min(GROUP * columns)],
                columns,
                blocks,
            });
        });
    }
}

/// The rows of a group.
struct Quantize<'a> {
    values: &'a [f32],
    columns: usize,
    blocks: &'a mut [Block],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (values, _) = self.values.as_chunks::<BLOCK>();
        let width = self.columns / BLOCK;
        for (index, block) in self.blocks.iter_mut().enumerate() {
            for (row, values) in values[index..].iter().step_by(width).enumerate() {
                quantize(lanes, values, block, row);
            }
        }
    }
}

#[inline(always)]
pub(super) fn quantize<L: Lanes>(lanes: L, values: &[f32; BLOCK], block: &mut Block, row: usize) {
    let (values, _) = values.as_chunks::<LANES>();
    let halves = [lanes.load(&values[0]), lanes.load(&values[1])];
    let minus = lanes.splat(-1.0);
    let size = |a| lanes.max(a, lanes.mul(a, minus));
    let largest = lanes.largest(lanes.max(size(halves[0]), size(halves[1])));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let (quants, _) = block.quants[row]
        .as_flattened_mut()
        .as_chunks_mut::<LANES>();
    let mut sum = 0.0;
    for half in 0..2 {
        // Sums of small whole numbers are exact.
        let rounded = lanes.round(lanes.mul(halves[half], lanes.splat(inverse)));
        quants[half] = lanes.to_i8(rounded);
        let of_half = lanes.sum(rounded);
        block.minus_halves[half][row] = -of_half as i32;
        sum += of_half;
    }
    block.scales[row] = scale;
    block.minus_sums[row] = -sum as i32;
    block.scaled_sums[row] = scale * sum;
}
