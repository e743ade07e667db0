//! Quantised weights in the order in which the kernels read them.
//!
//! Sixteen rows form a *tile*. For each block of 32 columns a tile holds the quants of its rows,
//! eight groups of four columns; within a group each row has its four columns side by side, which is
//! what the dot-product instructions want. Two groups of 4-bit quants share their bytes: group `g` is
//! in the low halves, group `g + 4` in the high ones. Behind the quants of all its blocks a tile holds
//! their scales, sixteen f16 a block, and for formats with a minimum sixteen f16 of that as well.
//! Nothing is lost: a weight is exactly what the file says.

use half::f16;

use super::lanes::LANES;
use crate::models::{Format, Matrix};

/// Columns that share a scale.
pub(super) const BLOCK: usize = 32;
/// Bytes of a cache line, at which tiles begin.
const LINE: usize = 64;

/// How the quants of a tile are written. A weight is scale · (quant - offset) + minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quants {
    /// 4 bits; the offset is 8.
    Nibbles,
    /// 4 bits with a minimum.
    NibblesWithMinimum,
    /// 8 bits; the offset is 128.
    Bytes,
}

/// A packed matrix of rows × columns.
pub(in crate::models) struct PackedMatrix {
    pub(super) rows: usize,
    columns: usize,
    pub(super) quants: Quants,
    bytes: Vec<u8>,
    /// Where the first cache line begins.
    start: usize,
}

/// The parts of one tile.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub quants: &'a [u8],
    pub scales: &'a [[u16; LANES]],
    /// Empty without minimum.
    pub minima: &'a [[u16; LANES]],
}

impl Quants {
    fn of(format: Format) -> Option<Self> {
        match format {
            Format::Q4_0 => Some(Self::Nibbles),
            Format::Q4_1 => Some(Self::NibblesWithMinimum),
            Format::Q8_0 => Some(Self::Bytes),
            _ => None,
        }
    }

    /// Bytes of the quants of one block of a tile.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Nibbles | Self::NibblesWithMinimum => LANES * BLOCK / 2,
            Self::Bytes => LANES * BLOCK,
        }
    }

    /// What is subtracted from each quant.
    pub(super) fn offset(self) -> i32 {
        match self {
            Self::Nibbles => 8,
            Self::NibblesWithMinimum => 0,
            Self::Bytes => 128,
        }
    }

    fn has_minimum(self) -> bool {
        self == Self::NibblesWithMinimum
    }
}

/// One block of one row.
struct Block {
    scale: u16,
    minimum: u16,
    /// With their offset.
    quants: [u8; BLOCK],
}

impl Block {
    /// From a block as GGUF has it (`format.rs` describes them).
    fn read(format: Format, bytes: &[u8]) -> Self {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let nibbles = |from: usize| {
            std::array::from_fn(|i| match i < BLOCK / 2 {
                true => bytes[from + i] & 15,
                false => bytes[from + i - BLOCK / 2] >> 4,
            })
        };
        let (minimum, quants) = match format {
            Format::Q4_0 => (0, nibbles(2)),
            Format::Q4_1 => (half(2), nibbles(4)),
            // Signed bytes become unsigned ones with an offset of 128.
            _ => (0, std::array::from_fn(|i| bytes[2 + i] ^ 0x80)),
        };
        Self {
            scale: half(0),
            minimum,
            quants,
        }
    }
}

impl PackedMatrix {
    /// None for formats that are not packed.
    pub(in crate::models) fn pack(matrix: &Matrix) -> Option<Self> {
        let quants = Quants::of(matrix.format)?;
        let mut packed = Self::empty(quants, matrix.rows, matrix.columns);
        let mut rest = &mut packed.bytes[packed.start..];
        for tile in 0..matrix.rows.div_ceil(LANES) {
            let (bytes, others) = rest.split_at_mut(tile_bytes(quants, matrix.columns));
            write_tile(matrix, quants, tile, bytes);
            rest = others;
        }
        Some(packed)
    }

    fn empty(quants: Quants, rows: usize, columns: usize) -> Self {
        let length = rows.div_ceil(LANES) * tile_bytes(quants, columns);
        let bytes = vec![0; length + LINE];
        // An allocation that cannot be aligned is only slower.
        let start = bytes.as_ptr().align_offset(LINE).min(LINE);
        Self {
            rows,
            columns,
            quants,
            bytes,
            start,
        }
    }

    pub(in crate::models) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(super) fn tile(&self, index: usize) -> Tile<'_> {
        let length = tile_bytes(self.quants, self.columns);
        let bytes = &self.bytes[self.start + index * length..][..length];
        let blocks = self.columns / BLOCK;
        let (quants, halves) = bytes.split_at(blocks * self.quants.block_bytes());
        let (scales, minima) = halves_of(halves).split_at(blocks);
        Tile {
            quants,
            scales,
            minima,
        }
    }

    /// The values of one row; `values` has as many entries as there are columns.
    pub(in crate::models) fn read_row(&self, row: usize, values: &mut [f32]) {
        let tile = self.tile(row / LANES);
        let lane = row % LANES;
        let at = |halves: &[[u16; LANES]], block: usize| {
            halves
                .get(block)
                .map_or(0.0, |half| f16::from_bits(half[lane]).to_f32())
        };
        let blocks = tile.quants.chunks_exact(self.quants.block_bytes());
        for (block, (quants, values)) in blocks.zip(values.chunks_exact_mut(BLOCK)).enumerate() {
            let (scale, minimum) = (at(tile.scales, block), at(tile.minima, block));
            for (column, value) in values.iter_mut().enumerate() {
                let quant = i32::from(self.quants.get(quants, lane, column));
                *value = scale * (quant - self.quants.offset()) as f32 + minimum;
            }
        }
    }
}

impl Quants {
    fn get(self, block: &[u8], lane: usize, column: usize) -> u8 {
        let (place, shift) = self.place(lane, column);
        match self {
            Self::Bytes => block[place],
            Self::Nibbles | Self::NibblesWithMinimum => block[place] >> shift & 15,
        }
    }

    /// The byte of a quant within its block, and the bit at which it begins.
    fn place(self, lane: usize, column: usize) -> (usize, u32) {
        let byte = |group: usize| (group * LANES + lane) * 4 + column % 4;
        match (self, column / 4) {
            (Self::Bytes, group) => (byte(group), 0),
            (_, group @ 0..4) => (byte(group), 0),
            (_, group) => (byte(group - 4), 4),
        }
    }
}

fn tile_bytes(quants: Quants, columns: usize) -> usize {
    let halves = 1 + usize::from(quants.has_minimum());
    columns / BLOCK * (quants.block_bytes() + halves * LANES * size_of::<u16>())
}

fn write_tile(matrix: &Matrix, quants: Quants, tile: usize, bytes: &mut [u8]) {
    let blocks = matrix.columns / BLOCK;
    let (to_quants, halves) = bytes.split_at_mut(blocks * quants.block_bytes());
    let (scales, minima) = halves.split_at_mut(blocks * LANES * size_of::<u16>());
    // Rows that fill up the last tile stay zero.
    let rows = tile * LANES..((tile + 1) * LANES).min(matrix.rows);
    for (lane, row) in rows.enumerate() {
        let from = matrix.row(row).chunks_exact(matrix.format.block_bytes());
        for (index, block) in from.enumerate() {
            let block = Block::read(matrix.format, block);
            let half = (index * LANES + lane) * 2..(index * LANES + lane + 1) * 2;
            scales[half.clone()].copy_from_slice(&block.scale.to_le_bytes());
            if quants.has_minimum() {
                minima[half].copy_from_slice(&block.minimum.to_le_bytes());
            }
            let to = &mut to_quants[index * quants.block_bytes()..][..quants.block_bytes()];
            for (column, quant) in block.quants.into_iter().enumerate() {
                let (place, shift) = quants.place(lane, column);
                to[place] |= quant << shift;
            }
        }
    }
}

/// Bytes of the machine's own order as sixteen halves each.
fn halves_of(bytes: &[u8]) -> &[[u16; LANES]] {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "tiles hold little-endian halves"
        )
    };
    // SAFETY: every pattern of bits is a valid u16; a misaligned start would show in `before`.
    #[allow(unsafe_code)]
    let (before, halves, _) = unsafe { bytes.align_to::<[u16; LANES]>() };
    assert!(before.is_empty(), "scales begin at an even address");
    halves
}

#[cfg(test)]
pub(super) mod tests {
    //! Goal: packing loses nothing, whatever the number of rows.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn rows_come_back_as_they_are_in_the_file() {
        let mut random = StdRng::seed_from_u64(4);
        for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
            for (rows, columns) in [(1, 32), (16, 64), (37, 576)] {
                let matrix = random_matrix(&mut random, format, rows, columns);
                let packed = PackedMatrix::pack(&matrix).unwrap();
                let (mut found, mut expected) = (vec![0.0; columns], vec![0.0; columns]);
                for row in 0..rows {
                    packed.read_row(row, &mut found);
                    matrix.read_row(row, &mut expected);
                    assert_eq!(found, expected, "{format:?} {rows} {columns} {row}");
                }
            }
        }
    }

    #[test]
    fn other_formats_are_left_as_they_are() {
        let matrix = Matrix::from_f32(1, 32, &[0.0; 32]).unwrap();
        assert!(PackedMatrix::pack(&matrix).is_none());
    }

    /// Random quants with scales of ordinary size.
    pub(in crate::models::cpu) fn random_matrix(
        random: &mut StdRng,
        format: Format,
        rows: usize,
        columns: usize,
    ) -> Matrix {
        let mut bytes = vec![0u8; rows * format.row_bytes(columns).unwrap()];
        random.fill(bytes.as_mut_slice());
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            let halves = if format == Format::Q4_1 { 2 } else { 1 };
            for half in block[..2 * halves].chunks_exact_mut(2) {
                let value = f16::from_f32(random.random_range(-0.1..0.1));
                half.copy_from_slice(&value.to_le_bytes());
            }
        }
        Matrix::new(format, rows, columns, bytes.into()).unwrap()
    }
}
