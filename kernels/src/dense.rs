//! Weights of 16 or 32 bits in the order in which the kernels read them.
//!
//! Sixteen rows form a *tile*, which lies column by column: a vector has one column of each row. Values are
//! those of the file, in its own format.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::lanes::{LANES, Lanes};
use super::pages::{Arena, NoMemory, Pages, Plain};
use super::{Format, Matrix};

/// A matrix of rows × columns.
pub struct DenseMatrix {
    rows: usize,
    columns: usize,
    pub(super) tiles: Tiles,
}

/// Tile after tile; rows that the last one lacks are zeros.
pub(super) enum Tiles {
    F32(Pages<f32>),
    F16(Pages<f16>),
    Bf16(Pages<bf16>),
}

/// Does the same with the tiles of each format.
macro_rules! with_tiles {
    ($tiles:expr, $name:ident => $work:expr) => {
        match $tiles {
            Tiles::F32($name) => $work,
            Tiles::F16($name) => $work,
            Tiles::Bf16($name) => $work,
        }
    };
}
pub(super) use with_tiles;

/// A weight.
pub(super) trait Weight: Plain + Default + Into<f32> {
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F;
}

impl DenseMatrix {
    /// Orders rows × columns weights of `format` tile by tile, on all threads; those in fewer bits become f32.
    /// `read_rows` replaces the content of a buffer by some of the rows, as GGUF has them.
    pub fn pack<E: From<NoMemory> + Send>(
        arena: &mut Arena,
        format: Format,
        rows: usize,
        columns: usize,
        read_rows: impl Fn(Range<usize>, &mut Vec<u8>) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let length = rows.div_ceil(LANES) * columns * LANES;
        let tiles = match format {
            Format::F16 => Tiles::F16(arena.take(length)?),
            Format::Bf16 => Tiles::Bf16(arena.take(length)?),
            _ => Tiles::F32(arena.take(length)?),
        };
        let mut matrix = Self {
            rows,
            columns,
            tiles,
        };
        let source = Source {
            format,
            rows,
            columns,
            read_rows,
        };
        match &mut matrix.tiles {
            Tiles::F32(tiles) => {
                source.fill(tiles, |bytes, values| format.unpack(bytes, values))?
            }
            Tiles::F16(tiles) => source.fill(tiles, |bytes, values| {
                read_halves(bytes, values, f16::from_bits);
            })?,
            Tiles::Bf16(tiles) => source.fill(tiles, |bytes, values| {
                read_halves(bytes, values, bf16::from_bits);
            })?,
        }
        Ok(matrix)
    }

    /// As `pack`, of a matrix in memory.
    pub fn from_matrix(arena: &mut Arena, matrix: &Matrix) -> Result<Self, NoMemory> {
        let read_rows = |rows: Range<usize>, bytes: &mut Vec<u8>| {
            bytes.clear();
            rows.for_each(|row| bytes.extend_from_slice(matrix.row(row)));
            Ok(())
        };
        Self::pack(arena, matrix.format, matrix.rows, matrix.columns, read_rows)
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        with_tiles!(&self.tiles, tiles => size_of_val::<[_]>(tiles))
    }

    /// Bytes that a matrix of `format` takes in memory.
    pub fn bytes_of(format: Format, rows: usize, columns: usize) -> usize {
        let bytes = match format {
            Format::F16 | Format::Bf16 => 2,
            _ => 4,
        };
        rows.next_multiple_of(LANES) * columns * bytes
    }

    /// The values of one row; `values` has as many entries as there are columns.
    pub fn read_row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.rows);
        assert_eq!(values.len(), self.columns);
        with_tiles!(&self.tiles, tiles => {
            let tile = &tiles[row / LANES * self.columns * LANES..];
            for (value, column) in values.iter_mut().zip(tile.chunks_exact(LANES)) {
                *value = value_of(column[row % LANES]);
            }
        });
    }

    /// All values, row by row: only for what is small.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        with_tiles!(&self.tiles, tiles => {
            let tiles = tiles.chunks_exact(self.columns * LANES);
            for (values, tile) in values.chunks_mut(self.columns * LANES).zip(tiles) {
                for (column, weights) in tile.chunks_exact(LANES).enumerate() {
                    let places = values[column..].iter_mut().step_by(self.columns);
                    places.zip(weights).for_each(|(value, weight)| *value = value_of(*weight));
                }
            }
        });
        values
    }

    pub(super) fn count(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(super) fn tile_bytes(&self) -> usize {
        self.bytes() / self.count()
    }
}

fn value_of<W: Weight>(weight: W) -> f32 {
    weight.into()
}

/// Where the weights come from.
struct Source<R> {
    format: Format,
    rows: usize,
    columns: usize,
    read_rows: R,
}

impl<R> Source<R> {
    /// `read` makes values of the bytes of a row.
    fn fill<W: Weight, E: Send>(
        &self,
        tiles: &mut [W],
        read: impl Fn(&[u8], &mut [W]) + Sync,
    ) -> Result<(), E>
    where
        R: Fn(Range<usize>, &mut Vec<u8>) -> Result<(), E> + Sync,
    {
        let row_bytes = self.columns / self.format.block_weights() * self.format.block_bytes();
        let buffers = || (Vec::new(), vec![W::default(); self.columns]);
        tiles
            .par_chunks_exact_mut(self.columns * LANES)
            .enumerate()
            .try_for_each_init(buffers, |(bytes, values), (tile, to)| {
                let start = tile * LANES;
                (self.read_rows)(start..self.rows.min(start + LANES), bytes)?;
                for (lane, row) in bytes.chunks_exact(row_bytes).enumerate() {
                    read(row, values);
                    for (to, value) in to[lane..].iter_mut().step_by(LANES).zip(&*values) {
                        *to = *value;
                    }
                }
                Ok(())
            })
    }
}

impl Weight for f32 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load(values)
    }
}

#[inline(always)]
fn bits<W>(values: &[W; LANES]) -> &[u16; LANES]
where
    [W]: HalfFloatSliceExt,
{
    let bits = values.as_slice().reinterpret_cast();
    bits.first_chunk().expect("as many as there were")
}

/// 16-bit values of a row.
fn read_halves<W>(bytes: &[u8], values: &mut [W], from: impl Fn(u16) -> W) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = from(u16::from_le_bytes(*bytes));
    }
}

impl Weight for f16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load_f16(bits(values))
    }
}

impl Weight for bf16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load_bf16(bits(values))
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! Goal: nothing is lost, whatever the number of rows, and what fills up the last tile is zero.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::packed::tests::random_matrix;

    pub(crate) fn pack(matrix: &Matrix) -> DenseMatrix {
        DenseMatrix::from_matrix(&mut Arena::default(), matrix).unwrap()
    }

    /// Values of ordinary size.
    pub(crate) fn random(
        random: &mut StdRng,
        format: Format,
        rows: usize,
        columns: usize,
    ) -> Matrix {
        let bytes = (0..rows * columns).flat_map(|_| {
            let value = random.random_range(-1.0f32..1.0);
            match format {
                Format::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                Format::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            }
        });
        Matrix::new(format, rows, columns, bytes.collect()).unwrap()
    }

    #[test]
    fn rows_come_back_as_they_are_in_the_file() {
        let mut rng = StdRng::seed_from_u64(4);
        for format in [Format::F32, Format::F16, Format::Bf16, Format::Q4_1] {
            for (rows, columns) in [(1, 32), (16, 64), (37, 160), (3, 7)] {
                let matrix = match format {
                    Format::Q4_1 if columns % 32 > 0 => continue,
                    Format::Q4_1 => random_matrix(&mut rng, format, rows, columns),
                    _ => random(&mut rng, format, rows, columns),
                };
                let dense = pack(&matrix);
                assert_eq!(dense.to_f32(), matrix.to_f32(), "{format:?} {rows}");
                assert_eq!(dense.bytes(), DenseMatrix::bytes_of(format, rows, columns));
                let used = rows % LANES;
                with_tiles!(&dense.tiles, tiles => {
                    let last = &tiles[rows / LANES * columns * LANES..];
                    let unused = last.chunks(LANES).flat_map(|column| &column[used..]);
                    assert!(unused.into_iter().all(|value| value_of(*value) == 0.0));
                });
            }
        }
    }
}
