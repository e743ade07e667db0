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
        let blocks = self.resize(values.len(), columns);
        pool.for_each(Chunks::new(&mut self.blocks, blocks), |group, blocks| {
            let values = &values[group * GROUP * columns..];
            let values = &values[..values.len().min(GROUP * columns)];
            quantize_group(level, values, columns, blocks);
        });
    }

    /// As `set`, of rows that `make` makes by their number just before.
    pub fn set_made(
        &mut self,
        pool: &Pool,
        level: Level,
        rows: &mut [f32],
        columns: usize,
        make: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let blocks = self.resize(rows.len(), columns);
        let parts = (
            Chunks::new(&mut self.blocks, blocks),
            Chunks::new(rows, GROUP * columns),
        );
        pool.for_each(parts, |group, (blocks, values)| {
            for (row, values) in values.chunks_exact_mut(columns).enumerate() {
                make(group * GROUP + row, values);
            }
            quantize_group(level, values, columns, blocks);
        });
    }

    /// Makes room for rows of so many values; returns the blocks of a row.
    fn resize(&mut self, values: usize, columns: usize) -> usize {
        assert!(columns.is_multiple_of(BLOCK) && values.is_multiple_of(columns));
        self.columns = columns;
        self.rows = values / columns;
        let blocks = columns / BLOCK;
        let length = self.rows.div_ceil(GROUP) * blocks;
        self.blocks.resize(length, Block::default());
        blocks
    }
}

/// No generic function, so that it is compiled as this crate is.
#[inline(never)]
fn quantize_group(level: Level, values: &[f32], columns: usize, blocks: &mut [Block]) {
    level.run(Quantize {
        values,
        columns,
        blocks,
    });
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
fn quantize<L: Lanes>(lanes: L, values: &[f32; BLOCK], block: &mut Block, row: usize) {
    let (values, _) = values.as_chunks::<LANES>();
    let halves = [lanes.load(&values[0]), lanes.load(&values[1])];
    let minus = lanes.splat(-1.0);
    let size = |a| lanes.max(a, lanes.mul(a, minus));
    let largest = lanes.largest(lanes.max(size(halves[0]), size(halves[1])));
    let scale = largest / 127.0;
    // Below the normal numbers the inverse would be infinite: such values count as zeros.
    let inverse = if scale >= f32::MIN_POSITIVE {
        1.0 / scale
    } else {
        0.0
    };
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

#[cfg(test)]
mod tests {
    //! Goal: rounding is the same at every level, also of numbers near zero, whose scales have no inverse.

    use super::*;

    #[test]
    fn the_smallest_numbers_become_zeros_at_every_level() {
        let mut values = [[0.0; BLOCK]; 6];
        for (row, value) in [1e-45, 1e-38, 1.4e-36, 1e-30, 3.0].into_iter().enumerate() {
            for (column, x) in values[row].iter_mut().enumerate() {
                *x = value * (column as f32 - 11.0) / 20.0;
            }
        }
        let pool = Pool::new(1);
        for level in Level::all() {
            let mut rows = QuantizedRows::default();
            rows.set(&pool, level, values.as_flattened(), BLOCK);
            let block = &rows.group(0)[0];
            for (row, values) in values.iter().enumerate() {
                let quants = block.quants[row].as_flattened();
                let sum: i32 = quants.iter().map(|q| i32::from(q.cast_signed())).sum();
                assert_eq!(block.minus_sums[row], -sum, "{level:?} {row}");
                let halves = block.minus_halves.map(|half| half[row]);
                assert_eq!(halves.iter().sum::<i32>(), -sum);
                assert_eq!(block.scaled_sums[row], block.scales[row] * sum as f32);
                for (quant, value) in quants.iter().zip(values) {
                    let found = f32::from(quant.cast_signed()) * block.scales[row];
                    let step = block.scales[row].max(f32::MIN_POSITIVE);
                    assert!((found - value).abs() <= 127.0 * step, "{level:?} {row}");
                    assert!(row < 3 || (found - value).abs() <= 0.51 * step);
                }
            }
        }
    }
}
