//! Quantised activations × packed weights.
//!
//! A block of 32 columns gives whole numbers first, which are exact; they are scaled and summed block
//! by block in f32. The order depends on the matrix alone, so a row of results is the same bit for bit
//! at every level and whatever other rows are computed beside it.

use super::lanes::{Kernel, LANES, Lanes, Level};
use super::packed::{PackedMatrix, Quants, Tile};
use super::parts::{Band, Bands};
use super::pool::Pool;
use super::quantized::{BlockScale, QuantizedRow, QuantizedRows};

/// Rows of activations that meet a tile at once: as many sums as there are registers for.
const ROWS: usize = 8;
/// Pieces of work for each thread, so that one that is slow holds the others up only briefly.
const PIECES: usize = 6;

/// One matrix and where its results go: rows of activations × rows of the matrix.
pub(in crate::models) struct Product<'a> {
    pub matrix: &'a PackedMatrix,
    pub results: &'a mut [f32],
    pub write: Write,
}

/// What becomes of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::models) enum Write {
    Replace,
    Add,
}

/// Multiplies the same activations with several matrices.
pub(in crate::models) fn multiply(
    pool: &Pool,
    level: Level,
    activations: &QuantizedRows,
    products: Vec<Product<'_>>,
) {
    let tiles: usize = products.iter().map(|product| product.matrix.tiles()).sum();
    let piece = (tiles / (pool.threads() * PIECES)).max(1);
    let (mut bands, mut tasks) = (Vec::new(), Vec::new());
    for product in products {
        let (rows, columns) = (product.matrix.rows, product.matrix.columns());
        assert_eq!(columns, activations.columns());
        assert_eq!(product.results.len(), activations.rows() * rows);
        bands.push(Bands::new(product.results, rows, piece * LANES));
        tasks.push((product.matrix, product.write));
    }
    pool.for_each(bands, |_, (product, part, band)| {
        let (matrix, write) = tasks[product];
        level.run(Piece {
            matrix,
            write,
            activations,
            first_tile: part * piece,
            band,
        });
    });
}

struct Piece<'a> {
    matrix: &'a PackedMatrix,
    write: Write,
    activations: &'a QuantizedRows,
    first_tile: usize,
    band: Band<'a>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match self.matrix.quants {
            Quants::Nibbles => self.tiles::<L, NIBBLES>(lanes),
            Quants::NibblesWithMinimum => self.tiles::<L, NIBBLES_WITH_MINIMUM>(lanes),
            Quants::Bytes => self.tiles::<L, BYTES>(lanes),
        }
    }
}

/// [`Quants`] as constants, so that each kind gets a loop of its own.
const NIBBLES: u8 = 0;
const NIBBLES_WITH_MINIMUM: u8 = 1;
const BYTES: u8 = 2;

impl Piece<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const KIND: u8>(mut self, lanes: L) {
        let count = self.band.columns().div_ceil(LANES);
        for index in 0..count {
            let tile = self.matrix.tile(self.first_tile + index);
            let rows = self.activations.rows();
            let mut row = 0;
            while row + ROWS <= rows {
                self.rows::<L, KIND, ROWS>(lanes, tile, index, row);
                row += ROWS;
            }
            if row + 4 <= rows {
                self.rows::<L, KIND, 4>(lanes, tile, index, row);
                row += 4;
            }
            if row + 2 <= rows {
                self.rows::<L, KIND, 2>(lanes, tile, index, row);
                row += 2;
            }
            if row < rows {
                self.rows::<L, KIND, 1>(lanes, tile, index, row);
            }
        }
    }

    #[inline(always)]
    fn rows<L: Lanes, const KIND: u8, const T: usize>(
        &mut self,
        lanes: L,
        tile: Tile<'_>,
        index: usize,
        first: usize,
    ) {
        let rows: [_; T] = std::array::from_fn(|row| self.activations.row(first + row));
        let sums = dots::<L, KIND, T>(lanes, tile, rows, self.matrix.quants.offset());
        for (offset, sum) in sums.into_iter().enumerate() {
            let mut values = [0.0; LANES];
            lanes.store(sum, &mut values);
            let band = self.band.row(first + offset);
            let end = band.len().min((index + 1) * LANES);
            let results = &mut band[index * LANES..end];
            match self.write {
                Write::Replace => results.copy_from_slice(&values[..results.len()]),
                Write::Add => results.iter_mut().zip(values).for_each(|(r, v)| *r += v),
            }
        }
    }
}

/// Sixteen weight rows with `T` rows of activations.
#[inline(always)]
fn dots<L: Lanes, const KIND: u8, const T: usize>(
    lanes: L,
    tile: Tile<'_>,
    rows: [QuantizedRow<'_>; T],
    offset: i32,
) -> [L::F; T] {
    let mut sums = [lanes.splat(0.0); T];
    let blocks = tile.scales.len();
    let quants = rows.map(|row| &row.quants.as_chunks::<8>().0[..blocks]);
    let scales = rows.map(|row| &row.blocks[..blocks]);
    let (lines, _) = tile.quants.as_chunks::<64>();
    for block in 0..blocks {
        let weights = unpack::<L, KIND>(lanes, lines, block);
        let weight_scales = lanes.load_f16(&tile.scales[block]);
        for row in 0..T {
            let scale = scales[row][block];
            let mut whole = lanes.splat_i32(-offset * scale.sum);
            for (group, weights) in weights.into_iter().enumerate() {
                let x = quants[row][block][group];
                whole = match KIND {
                    BYTES => lanes.dot_bytes(whole, weights, x),
                    _ => lanes.dot_nibbles(whole, weights, x),
                };
            }
            let factors = lanes.mul(weight_scales, lanes.splat(scale.scale));
            sums[row] = lanes.fma(lanes.to_f32(whole), factors, sums[row]);
        }
        if KIND == NIBBLES_WITH_MINIMUM {
            let minima = lanes.load_f16(&tile.minima[block]);
            for row in 0..T {
                let BlockScale { scale, sum } = scales[row][block];
                let sum = lanes.splat(scale * sum as f32);
                sums[row] = lanes.fma(minima, sum, sums[row]);
            }
        }
    }
    sums
}

/// The eight groups of a block.
#[inline(always)]
fn unpack<L: Lanes, const KIND: u8>(lanes: L, lines: &[[u8; 64]], block: usize) -> [L::B; 8] {
    if KIND == BYTES {
        let lines = &lines[8 * block..][..8];
        return std::array::from_fn(|group| lanes.load_bytes(&lines[group]));
    }
    let lines = &lines[4 * block..][..4];
    std::array::from_fn(|group| {
        let bytes = lanes.load_bytes(&lines[group % 4]);
        match group < 4 {
            true => lanes.low_nibbles(bytes),
            false => lanes.high_nibbles(bytes),
        }
    })
}

#[cfg(test)]
mod tests {
    //! Goal: at every level of this processor, products equal their definition bit for bit, for every
    //! packed format and number of rows, and come close to products with unpacked weights.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::models::cpu::packed::tests::random_matrix;
    use crate::models::{Format, Matrix};

    fn product(level: Level, matrix: &PackedMatrix, activations: &QuantizedRows) -> Vec<f32> {
        let mut results = vec![1.0; activations.rows() * matrix.rows];
        let product = Product {
            matrix,
            results: &mut results,
            write: Write::Replace,
        };
        multiply(&Pool::new(2), level, activations, vec![product]);
        results
    }

    /// The definition: block by block, the whole number scaled, then the minimum.
    fn defined(matrix: &Matrix, activations: &QuantizedRows, token: usize, row: usize) -> f32 {
        let offset = if matrix.format == Format::Q4_0 { 8 } else { 0 };
        let activations = activations.row(token);
        let mut sum = 0f32;
        let blocks = matrix.row(row).chunks_exact(matrix.format.block_bytes());
        for (index, block) in blocks.enumerate() {
            let half = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            let quants: Vec<i32> = match matrix.format {
                Format::Q8_0 => block[2..]
                    .iter()
                    .map(|&q| i32::from(q.cast_signed()))
                    .collect(),
                _ => {
                    let bytes = &block[block.len() - 16..];
                    let low = bytes.iter().map(|&q| i32::from(q & 15) - offset);
                    low.chain(bytes.iter().map(|&q| i32::from(q >> 4) - offset))
                        .collect()
                }
            };
            let x = activations.quants[8 * index..][..8].as_flattened();
            let whole: i32 = quants
                .iter()
                .zip(x)
                .map(|(&q, &x)| q * i32::from(x.cast_signed()))
                .sum();
            let scale = activations.blocks[index].scale;
            sum = (whole as f32).mul_add(half(0) * scale, sum);
            if matrix.format == Format::Q4_1 {
                sum = half(2).mul_add(scale * activations.blocks[index].sum as f32, sum);
            }
        }
        sum
    }

    #[test]
    fn products_equal_the_definition_at_every_level() {
        let mut random = StdRng::seed_from_u64(5);
        let pool = Pool::new(2);
        for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
            for block in 1..=20 {
                let (rows, columns) = (random.random_range(1..70), 32 * block);
                let tokens = random.random_range(1..20);
                let matrix = random_matrix(&mut random, format, rows, columns);
                let packed = PackedMatrix::pack(&matrix).unwrap();
                let values: Vec<f32> = (0..tokens * columns)
                    .map(|_| random.random_range(-3.0..3.0))
                    .collect();
                for level in Level::all() {
                    let mut activations = QuantizedRows::default();
                    activations.set(&pool, level, &values, columns);
                    let results = product(level, &packed, &activations);
                    for token in 0..tokens {
                        for row in 0..rows {
                            let expected = defined(&matrix, &activations, token, row);
                            let found = results[token * rows + row];
                            assert_eq!(found.to_bits(), expected.to_bits(), "{format:?} {level:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn quantised_products_are_close_to_exact_ones() {
        let mut random = StdRng::seed_from_u64(6);
        let pool = Pool::new(1);
        for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
            let matrix = random_matrix(&mut random, format, 48, 576);
            let packed = PackedMatrix::pack(&matrix).unwrap();
            let values: Vec<f32> = (0..576).map(|_| random.random_range(-3.0..3.0)).collect();
            let mut activations = QuantizedRows::default();
            activations.set(&pool, Level::best(), &values, 576);
            let results = product(Level::best(), &packed, &activations);
            let mut weights = vec![0.0; 576];
            for (row, result) in results.into_iter().enumerate() {
                matrix.read_row(row, &mut weights);
                let products = || weights.iter().zip(&values).map(|(w, x)| f64::from(w * x));
                let exact: f64 = products().sum();
                let size: f64 = products().map(f64::abs).sum();
                assert!(
                    (f64::from(result) - exact).abs() < 2e-3 * size,
                    "{format:?}"
                );
            }
        }
    }
}
