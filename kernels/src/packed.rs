//! Quantised weights in the order in which the kernels read them.
//!
//! Sixteen rows form a *tile*. For each block of 32 columns a tile holds the quants of its rows,
//! eight groups of four columns; within a group each row has its four columns side by side, which is
//! what the dot-product instructions want. Two groups of 4-bit quants share their bytes: group `g` is
//! in the low halves, group `g + 4` in the high ones. Fifth and sixth bits follow in lines of their own:
//! the fifth bits of all groups in one, or the bit pairs of groups 0 to 3 and of groups 4 to 7 in two.
//! Behind the quants of all its blocks a tile holds their scales, and for formats with a minimum those:
//! sixteen f16 a block, or for the K formats sixteen signed bytes a block (of Q6_K: for each half of
//! it) and sixteen f16 for eight blocks by which they are multiplied.
//! Nothing is lost: a weight is exactly what the file says, and takes as many bits as there.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::lanes::LANES;
use super::pages::{Arena, NoMemory, Pages};
use crate::format::{quantize_q8_0, scale_and_minimum};
use crate::{Format, Matrix};

/// Columns that share a scale, or two.
pub(super) const BLOCK: usize = 32;
/// Blocks of a K format that share the factor of their scales.
pub(super) const SUPER: usize = 8;
/// Groups of four columns in a block.
const GROUPS: usize = BLOCK / 4;
/// The low halves of four bytes.
const LOW: u32 = 0x0f0f_0f0f;
/// Bytes of a cache line; a group of a block fills one.
const LINE: usize = 64;

/// How the weights of a tile are written. A weight is scale · (quant - offset) + minimum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// Of the file.
    format: Format,
    /// Bits of a quant.
    pub bits: usize,
    /// What is subtracted from each quant.
    pub offset: i32,
    pub has_minimum: bool,
}

/// A packed matrix of rows × columns.
pub struct PackedMatrix {
    rows: usize,
    columns: usize,
    pub(super) packing: Packing,
    /// Tile after tile.
    bytes: Pages<u8>,
}

/// The parts of one tile; those that a packing lacks are empty.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// All parts.
    pub bytes: &'a [u8],
    /// [`Packing::lines`] for each block.
    pub quants: &'a [[u8; LINE]],
    /// Signed bytes of a K format: [`Packing::scales`] for each block.
    pub byte_scales: &'a [[u8; LANES]],
    pub byte_minima: &'a [[u8; LANES]],
    /// f16 for each block, or for eight blocks of a K format.
    pub scales: &'a [[u16; LANES]],
    pub minima: &'a [[u16; LANES]],
}

impl Packing {
    fn of(format: Format) -> Option<Self> {
        let (bits, offset, has_minimum) = match format {
            Format::Q4_0 => (4, 8, false),
            Format::Q4_1 | Format::Q4K => (4, 0, true),
            Format::Q5_0 => (5, 16, false),
            Format::Q5_1 | Format::Q5K => (5, 0, true),
            Format::Q6K => (6, 32, false),
            Format::Q8_0 => (8, 128, false),
            Format::F32 | Format::F16 | Format::Bf16 => return None,
        };
        Some(Self {
            format,
            bits,
            offset,
            has_minimum,
        })
    }

    /// Cache lines of the quants of one block: one for each bit of its 32 columns and 16 rows.
    pub(super) fn lines(self) -> usize {
        self.bits
    }

    /// Whether scales and minima are bytes that are multiplied by an f16.
    pub(super) fn is_k(self) -> bool {
        self.format.block_weights() > BLOCK
    }

    /// Scales of a block.
    pub(super) fn scales(self) -> usize {
        if self.format == Format::Q6K { 2 } else { 1 }
    }

    /// Bytes of each part of a tile, in their order.
    fn part_bytes(self, columns: usize) -> [usize; 5] {
        let blocks = columns / BLOCK;
        let minima = usize::from(self.has_minimum);
        let (bytes, halves) = match self.is_k() {
            true => (LANES * blocks, 2 * LANES * blocks / SUPER),
            false => (0, 2 * LANES * blocks),
        };
        [
            blocks * self.lines() * LINE,
            bytes * self.scales(),
            bytes * minima,
            halves,
            halves * minima,
        ]
    }

    fn tile_bytes(self, columns: usize) -> usize {
        self.part_bytes(columns).iter().sum()
    }

    pub(super) fn get(self, block: &[[u8; LINE]], lane: usize, column: usize) -> u8 {
        let group = column / 4;
        let byte = |line: usize| block[line][lane * 4 + column % 4];
        if self.bits == 8 {
            return byte(group);
        }
        let low = byte(group % 4) >> (group / 4 * 4) & 15;
        let high = match self.bits {
            5 => byte(4) >> group & 1,
            6 => byte(4 + group / 4) >> (group % 4 * 2) & 3,
            _ => 0,
        };
        low | high << 4
    }

    /// Writes the quants of a row to a block: the opposite of `get`, four columns at a time.
    #[inline(always)]
    fn put(self, block: &mut [[u8; LINE]], lane: usize, groups: &[u32; GROUPS]) {
        let mut lines = [0; 8];
        for (index, group) in groups.iter().enumerate() {
            if self.bits == 8 {
                lines[index] = *group;
                continue;
            }
            lines[index % 4] |= (group & LOW) << (index / 4 * 4);
            let high = group >> 4 & LOW;
            match self.bits {
                5 => lines[4] |= high << index,
                6 => lines[4 + index / 4] |= high << (index % 4 * 2),
                _ => {}
            }
        }
        for (to, line) in block.iter_mut().zip(lines) {
            to[lane * 4..][..4].copy_from_slice(&line.to_le_bytes());
        }
    }
}

/// One block of one row.
struct Block {
    /// f16, for a block or (of a K format) for the eight blocks it is one of.
    scale: u16,
    minimum: u16,
    /// Signed, of a K format.
    byte_scales: [u8; 2],
    byte_minimum: u8,
    /// The quants with their offset, four columns in the bytes of each.
    groups: [u32; GROUPS],
}

impl Block {
    /// Block `index` of a row as GGUF has it (`format.rs` describes the formats).
    #[inline(always)]
    fn read(packing: Packing, row: &[u8], index: usize) -> Self {
        let mut block = Self {
            scale: 0,
            minimum: 0,
            byte_scales: [0; 2],
            byte_minimum: 0,
            groups: [0; GROUPS],
        };
        match packing.is_k() {
            true => block.read_k(packing, row, index),
            false => block.read_plain(packing, row, index),
        }
        block
    }

    #[inline(always)]
    fn read_plain(&mut self, packing: Packing, row: &[u8], index: usize) {
        let length = packing.format.block_bytes();
        let bytes = &row[index * length..][..length];
        self.scale = half_at(bytes, 0);
        if packing.has_minimum {
            self.minimum = half_at(bytes, 2);
        }
        let (_, rest) = bytes.split_at(2 + 2 * usize::from(packing.has_minimum));
        let (high, low) = rest.split_at(if packing.bits == 5 { 4 } else { 0 });
        if packing.bits == 8 {
            // Signed bytes become unsigned ones with an offset of 128.
            self.groups = words(low).map(|word| word ^ 0x8080_8080);
            return;
        }
        let low: [u32; GROUPS / 2] = words(low);
        for (index, word) in low.into_iter().enumerate() {
            self.groups[index] = word & LOW;
            self.groups[index + GROUPS / 2] = word >> 4 & LOW;
        }
        if packing.bits == 5 {
            let [high] = words(high);
            for (index, group) in self.groups.iter_mut().enumerate() {
                // Copies of four bits, each shifted by 7 more, have one of them at the start of each byte.
                let copies = (high >> (4 * index) & 15) * 0x0020_4081;
                *group |= (copies & 0x0101_0101) << 4;
            }
        }
    }

    #[inline(always)]
    fn read_k(&mut self, packing: Packing, row: &[u8], index: usize) {
        let (outer, inner) = (index / SUPER, index % SUPER);
        let length = packing.format.block_bytes();
        let bytes = &row[outer * length..][..length];
        if packing.format == Format::Q6K {
            return self.read_q6_k(bytes, inner);
        }
        let (scales, rest) = bytes[4..].split_at(12);
        let (high, low) = rest.split_at(if packing.bits == 5 { BLOCK } else { 0 });
        (self.scale, self.minimum) = (half_at(bytes, 0), half_at(bytes, 2));
        let (scale, minimum) = scale_and_minimum(scales, inner);
        self.byte_scales[0] = scale;
        // It is subtracted.
        self.byte_minimum = minimum.wrapping_neg();
        let low = &low[inner / 2 * BLOCK..][..BLOCK];
        self.groups = words(low).map(|word| word >> (inner % 2 * 4) & LOW);
        if packing.bits == 5 {
            let high: [u32; GROUPS] = words(high);
            for (group, high) in self.groups.iter_mut().zip(high) {
                *group |= (high >> inner & 0x0101_0101) << 4;
            }
        }
    }

    #[inline(always)]
    fn read_q6_k(&mut self, bytes: &[u8], inner: usize) {
        // Two halves of four blocks each.
        let (half, quarter) = (inner / 4, inner % 4);
        self.scale = half_at(bytes, 208);
        self.byte_scales
            .copy_from_slice(&bytes[192 + 2 * inner..][..2]);
        let low: [u32; GROUPS] = words(&bytes[64 * half + quarter % 2 * BLOCK..][..BLOCK]);
        let high: [u32; GROUPS] = words(&bytes[128 + 32 * half..][..BLOCK]);
        for ((group, low), high) in self.groups.iter_mut().zip(low).zip(high) {
            *group = low >> (quarter / 2 * 4) & LOW;
            *group |= (high >> (quarter * 2) & 0x0303_0303) << 4;
        }
    }
}

/// Bytes, four in a word.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|index| u32::from_le_bytes(words[index]))
}

#[inline(always)]
fn half_at(bytes: &[u8], position: usize) -> u16 {
    u16::from_le_bytes([bytes[position], bytes[position + 1]])
}

impl PackedMatrix {
    /// Packs rows × columns weights of `format` tile by tile, on all threads; None for formats that are not
    /// packed. `read_rows` replaces the content of a buffer by some of the rows, as GGUF has them.
    pub fn pack<E: From<NoMemory> + Send>(
        arena: &mut Arena,
        format: Format,
        rows: usize,
        columns: usize,
        read_rows: impl Fn(Range<usize>, &mut Vec<u8>) -> Result<(), E> + Sync,
    ) -> Result<Option<Self>, E> {
        let Some(packing) = Packing::of(format) else {
            return Ok(None);
        };
        let tile_bytes = packing.tile_bytes(columns);
        let mut bytes: Pages<u8> = arena.take(rows.div_ceil(LANES) * tile_bytes)?;
        bytes
            .par_chunks_exact_mut(tile_bytes)
            .enumerate()
            .try_for_each_init(Vec::new, |bytes, (tile, to)| -> Result<(), E> {
                let start = tile * LANES;
                read_rows(start..rows.min(start + LANES), bytes)?;
                write_tile(packing, columns, bytes, to);
                Ok(())
            })?;
        Ok(Some(Self {
            rows,
            columns,
            packing,
            bytes,
        }))
    }

    /// Rounds matrices that lie one below the other to 8 bits (Q8_0). Columns are a multiple of 32.
    pub fn quantize(arena: &mut Arena, parts: &[&Matrix]) -> Result<Self, NoMemory> {
        let format = Format::Q8_0;
        let columns = parts[0].columns;
        assert!(columns.is_multiple_of(BLOCK));
        assert!(parts.iter().all(|part| part.columns == columns));
        let rows = parts.iter().map(|part| part.rows).sum();
        let all: Vec<_> = parts
            .iter()
            .flat_map(|part| (0..part.rows).map(move |row| (part, row)))
            .collect();
        let read_rows = |rows: Range<usize>, bytes: &mut Vec<u8>| {
            bytes.clear();
            let mut values = vec![0.0; columns];
            for (part, row) in &all[rows] {
                part.read_row(*row, &mut values);
                quantize_q8_0(&values, bytes);
            }
            Ok(())
        };
        let packed = Self::pack::<NoMemory>(arena, format, rows, columns, read_rows)?;
        Ok(packed.expect("there is a packing for it"))
    }

    pub(super) fn format(&self) -> Format {
        self.packing.format
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(super) fn tile_bytes(&self) -> usize {
        self.packing.tile_bytes(self.columns)
    }

    pub(super) fn tile(&self, index: usize) -> Tile<'_> {
        let length = self.tile_bytes();
        let bytes = &self.bytes[index * length..][..length];
        let sizes = self.packing.part_bytes(self.columns);
        let (quants, rest) = bytes.split_at(sizes[0]);
        let (byte_scales, rest) = rest.split_at(sizes[1]);
        let (byte_minima, rest) = rest.split_at(sizes[2]);
        let (scales, minima) = rest.split_at(sizes[3]);
        Tile {
            bytes,
            quants: quants.as_chunks().0,
            byte_scales: byte_scales.as_chunks().0,
            byte_minima: byte_minima.as_chunks().0,
            scales: halves_of(scales),
            minima: halves_of(minima),
        }
    }

    /// The values of one row; `values` has as many entries as there are columns.
    pub fn read_row(&self, row: usize, values: &mut [f32]) {
        let packing = self.packing;
        let tile = self.tile(row / LANES);
        let lane = row % LANES;
        let blocks = tile.quants.chunks_exact(packing.lines());
        for (block, (quants, values)) in blocks.zip(values.chunks_exact_mut(BLOCK)).enumerate() {
            let minimum = tile.minimum(packing, block, lane);
            let halves = values.chunks_exact_mut(BLOCK / packing.scales());
            for (half, values) in halves.enumerate() {
                let scale = tile.scale(packing, block, half, lane);
                for (column, value) in values.iter_mut().enumerate() {
                    let column = half * BLOCK / 2 + column;
                    let quant = i32::from(packing.get(quants, lane, column));
                    *value = scale * (quant - packing.offset) as f32 + minimum;
                }
            }
        }
    }
}

impl Tile<'_> {
    /// Of half `half` of a block.
    pub(super) fn scale(&self, packing: Packing, block: usize, half: usize, lane: usize) -> f32 {
        let f16_at = |block: usize| f16::from_bits(self.scales[block][lane]).to_f32();
        if !packing.is_k() {
            return f16_at(block);
        }
        let byte = self.byte_scales[block * packing.scales() + half][lane];
        f16_at(block / SUPER) * f32::from(byte.cast_signed())
    }

    pub(super) fn minimum(&self, packing: Packing, block: usize, lane: usize) -> f32 {
        if !packing.has_minimum {
            return 0.0;
        }
        let f16_at = |block: usize| f16::from_bits(self.minima[block][lane]).to_f32();
        if !packing.is_k() {
            return f16_at(block);
        }
        f16_at(block / SUPER) * f32::from(self.byte_minima[block][lane].cast_signed())
    }
}

/// `bytes` are the rows of a tile as GGUF has them; those that a last tile lacks stay zero.
fn write_tile(packing: Packing, columns: usize, bytes: &[u8], tile: &mut [u8]) {
    let sizes = packing.part_bytes(columns);
    let (quants, rest) = tile.split_at_mut(sizes[0]);
    let (byte_scales, rest) = rest.split_at_mut(sizes[1]);
    let (byte_minima, rest) = rest.split_at_mut(sizes[2]);
    let (scales, minima) = rest.split_at_mut(sizes[3]);
    let (quants, _) = quants.as_chunks_mut();
    let row_bytes = columns / packing.format.block_weights() * packing.format.block_bytes();
    for (index, quants) in quants.chunks_exact_mut(packing.lines()).enumerate() {
        for (lane, row) in bytes.chunks_exact(row_bytes).enumerate() {
            let block = Block::read(packing, row, index);
            packing.put(quants, lane, &block.groups);
            let half = if packing.is_k() { index / SUPER } else { index };
            let half = (half * LANES + lane) * 2..(half * LANES + lane + 1) * 2;
            scales[half.clone()].copy_from_slice(&block.scale.to_le_bytes());
            if packing.has_minimum {
                minima[half].copy_from_slice(&block.minimum.to_le_bytes());
            }
            if packing.is_k() {
                for part in 0..packing.scales() {
                    let to = (index * packing.scales() + part) * LANES + lane;
                    byte_scales[to] = block.byte_scales[part];
                }
                if packing.has_minimum {
                    byte_minima[index * LANES + lane] = block.byte_minimum;
                }
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
        for format in PACKED {
            let block = format.block_weights();
            for (rows, columns) in [(1, block), (16, 2 * block), (37, 5 * block)] {
                let matrix = random_matrix(&mut random, format, rows, columns);
                let packed = pack(&matrix).unwrap();
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
    fn matrices_are_rounded_one_below_the_other() {
        let mut random = StdRng::seed_from_u64(7);
        let mut matrix = |rows| {
            let values: Vec<f32> = (0..rows * 64)
                .map(|_| random.random_range(-1.0..1.0))
                .collect();
            Matrix::from_f32(rows, 64, &values).unwrap()
        };
        let parts = [matrix(16), matrix(21)];
        let packed =
            PackedMatrix::quantize(&mut Arena::default(), &[&parts[0], &parts[1]]).unwrap();
        assert_eq!((packed.rows(), packed.columns()), (37, 64));
        let exact = [parts[0].to_f32(), parts[1].to_f32()].concat();
        let mut found = vec![0.0; 64];
        for (row, exact) in exact.chunks(64).enumerate() {
            packed.read_row(row, &mut found);
            for (found, exact) in found.iter().zip(exact) {
                // Half a step of values up to 1, and the rounding of the scale.
                assert!((found - exact).abs() < 0.55 / 127.0, "{found} {exact}");
            }
        }
    }

    #[test]
    fn other_formats_are_left_as_they_are() {
        let matrix = Matrix::from_f32(1, 32, &[0.0; 32]).unwrap();
        assert!(pack(&matrix).is_none());
    }

    pub(crate) const PACKED: [Format; 8] = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];

    #[test]
    fn a_failing_reader_is_an_error() {
        #[derive(Debug, PartialEq)]
        struct Shrank;
        impl From<NoMemory> for Shrank {
            fn from(_: NoMemory) -> Self {
                Self
            }
        }
        let packed = PackedMatrix::pack(
            &mut Arena::default(),
            Format::Q4_0,
            37,
            64,
            |rows, bytes| match rows.end {
                37 => Err(Shrank),
                _ => {
                    bytes.resize(rows.len() * 36, 0);
                    Ok(())
                }
            },
        );
        assert_eq!(packed.err(), Some(Shrank));
    }

    pub(crate) fn pack(matrix: &Matrix) -> Option<PackedMatrix> {
        let read_rows = |rows: Range<usize>, bytes: &mut Vec<u8>| -> Result<(), NoMemory> {
            bytes.clear();
            rows.for_each(|row| bytes.extend_from_slice(matrix.row(row)));
            Ok(())
        };
        let Matrix {
            format,
            rows,
            columns,
            ..
        } = *matrix;
        PackedMatrix::pack(&mut Arena::default(), format, rows, columns, read_rows).unwrap()
    }

    /// Random quants with scales of ordinary size.
    pub(crate) fn random_matrix(
        random: &mut StdRng,
        format: Format,
        rows: usize,
        columns: usize,
    ) -> Matrix {
        let mut bytes = vec![0u8; rows * format.row_bytes(columns).unwrap()];
        random.fill(bytes.as_mut_slice());
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            let halves: &[usize] = match format {
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
                Format::Q6K => &[208],
                _ => &[0, 2],
            };
            for &at in halves {
                let value = f16::from_f32(random.random_range(-0.1..0.1));
                block[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
        }
        Matrix::new(format, rows, columns, bytes).unwrap()
    }
}
