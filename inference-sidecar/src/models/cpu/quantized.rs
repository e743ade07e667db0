//! Activations in 8 bits, as GGML's Q8_1: 32 values share a scale, which stays an f32 here.

use super::lanes::{Kernel, LANES, Lanes, Level};
use super::packed::BLOCK;
use super::parts::Chunks;
use super::pool::Pool;

/// Rows of quantised activations; the buffers are kept from step to step.
#[derive(Default)]
pub(in crate::models) struct QuantizedRows {
    columns: usize,
    quants: Vec<u8>,
    blocks: Vec<BlockScale>,
}

/// What belongs to 32 activations.
#[derive(Clone, Copy, Default)]
pub(super) struct BlockScale {
    pub scale: f32,
    /// Sums of the signed quants of both halves.
    pub sums: [i16; 2],
}

/// One row.
#[derive(Clone, Copy)]
pub(super) struct QuantizedRow<'a> {
    /// Bits of signed bytes, four at a time.
    pub quants: &'a [[u8; 4]],
    pub blocks: &'a [BlockScale],
}

impl BlockScale {
    /// Sum of all quants.
    #[inline(always)]
    pub(super) fn sum(self) -> i32 {
        i32::from(self.sums[0]) + i32::from(self.sums[1])
    }
}

impl QuantizedRows {
    pub(super) fn rows(&self) -> usize {
        self.quants.len() / self.columns
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn row(&self, index: usize) -> QuantizedRow<'_> {
        let blocks = self.columns / BLOCK;
        let (quants, _) = self.quants[index * self.columns..][..self.columns].as_chunks();
        QuantizedRow {
            quants,
            blocks: &self.blocks[index * blocks..][..blocks],
        }
    }

    /// Replaces all rows; `columns` is a multiple of 32.
    pub(in crate::models) fn set(
        &mut self,
        pool: &Pool,
        level: Level,
        values: &[f32],
        columns: usize,
    ) {
        assert!(columns.is_multiple_of(BLOCK) && values.len().is_multiple_of(columns));
        self.columns = columns;
        self.quants.resize(values.len(), 0);
        self.blocks
            .resize(values.len() / BLOCK, BlockScale::default());
        let parts = (
            Chunks::new(&mut self.quants, columns),
            Chunks::new(&mut self.blocks, columns / BLOCK),
        );
        pool.for_each(parts, |row, (quants, blocks)| {
            let values = &values[row * columns..][..columns];
            level.run(Quantize {
                values,
                quants,
                blocks,
            });
        });
    }
}

struct Quantize<'a> {
    values: &'a [f32],
    quants: &'a mut [u8],
    blocks: &'a mut [BlockScale],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (values, _) = self.values.as_chunks::<LANES>();
        let (quants, _) = self.quants.as_chunks_mut::<LANES>();
        let pairs = values.chunks_exact(2).zip(quants.chunks_exact_mut(2));
        for ((values, quants), block) in pairs.zip(self.blocks) {
            let halves = [lanes.load(&values[0]), lanes.load(&values[1])];
            let minus = lanes.splat(-1.0);
            let size = |a| lanes.max(a, lanes.mul(a, minus));
            let largest = lanes.largest(lanes.max(size(halves[0]), size(halves[1])));
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (half, quants) in halves.into_iter().zip(quants.iter_mut()) {
                *quants = lanes.to_i8(lanes.mul(half, lanes.splat(inverse)));
            }
            let mut sums = [0; 2];
            for (sum, quants) in sums.iter_mut().zip(quants.iter()) {
                for quant in quants {
                    *sum += i16::from(quant.cast_signed());
                }
            }
            *block = BlockScale { scale, sums };
        }
    }
}
