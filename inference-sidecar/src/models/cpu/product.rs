//! Quantised activations × packed weights.
//!
//! A block of 32 columns gives whole numbers first, which are exact; they are scaled and summed block
//! by block in f32. The order depends on the matrix alone, so a row of results is the same bit for bit
//! at every level and whatever other rows are computed beside it.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

use super::lanes::{Kernel, LANES, Lanes, Level};
use super::packed::{PackedMatrix, Packing, SUPER, Tile};
use super::parts::{Band, Bands};
use super::pool::Pool;
use super::quantized::{QuantizedRow, QuantizedRows};

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
        // Each number of bits gets loops of its own; what else differs is asked once a block.
        match self.matrix.packing.bits {
            4 => self.tiles::<L, 4>(lanes),
            5 => self.tiles::<L, 5>(lanes),
            6 => self.tiles::<L, 6>(lanes),
            _ => self.tiles::<L, 8>(lanes),
        }
    }
}

impl Piece<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const BITS: usize>(mut self, lanes: L) {
        let count = self.band.columns().div_ceil(LANES);
        for index in 0..count {
            let tile = self.matrix.tile(self.first_tile + index);
            let rows = self.activations.rows();
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    8.. if L::SUMS > 1 => self.rows::<L, BITS, 8>(lanes, tile, index, row),
                    4.. if L::SUMS > 1 => self.rows::<L, BITS, 4>(lanes, tile, index, row),
                    2.. => self.rows::<L, BITS, 2>(lanes, tile, index, row),
                    _ => self.rows::<L, BITS, 1>(lanes, tile, index, row),
                };
            }
        }
    }

    /// Computes `T` rows of activations; returns `T`.
    #[inline(always)]
    fn rows<L: Lanes, const BITS: usize, const T: usize>(
        &mut self,
        lanes: L,
        tile: Tile<'_>,
        index: usize,
        first: usize,
    ) -> usize {
        let rows: [_; T] = std::array::from_fn(|row| self.activations.row(first + row));
        let sums = dots::<L, BITS, T>(lanes, tile, rows, self.matrix.packing);
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
        T
    }
}

/// Sixteen weight rows, whose quants have `BITS` bits, with `T` rows of activations.
#[inline(always)]
fn dots<L: Lanes, const BITS: usize, const T: usize>(
    lanes: L,
    tile: Tile<'_>,
    rows: [QuantizedRow<'_>; T],
    packing: Packing,
) -> [L::F; T] {
    let mut sums = [lanes.splat(0.0); T];
    let blocks = tile.quants.len() / BITS;
    let quants = rows.map(|row| &row.quants.as_chunks::<8>().0[..blocks]);
    let scales = rows.map(|row| &row.blocks[..blocks]);
    for block in 0..blocks {
        let lines = &tile.quants[block * BITS..][..BITS];
        let weights = unpack::<L, BITS>(lanes, lines);
        let weight_scales = block_scales(lanes, packing, tile, block);
        for row in 0..T {
            let scale = scales[row][block];
            let x = &quants[row][block];
            // Groups that share a scale.
            let parts = if BITS == 6 { 2 } else { 1 };
            for part in 0..parts {
                let sum = match parts {
                    1 => scale.sum(),
                    _ => i32::from(scale.sums[part]),
                };
                let mut whole = lanes.splat_i32(-packing.offset * sum);
                let groups = part * 8 / parts..(part + 1) * 8 / parts;
                let (weights, x) = (&weights[groups.clone()], &x[groups]);
                whole = match BITS {
                    8 => lanes.dot_groups(whole, weights, x),
                    _ => lanes.dot_small(whole, weights, x, 128 >> BITS),
                };
                let factors = lanes.mul(weight_scales[part], lanes.splat(scale.scale));
                sums[row] = lanes.fma(lanes.to_f32(whole), factors, sums[row]);
            }
        }
        if packing.has_minimum {
            let minima = block_minima(lanes, packing, tile, block);
            for row in 0..T {
                let scale = scales[row][block];
                let sum = lanes.splat(scale.scale * scale.sum() as f32);
                sums[row] = lanes.fma(minima, sum, sums[row]);
            }
        }
    }
    sums
}

/// The scales of a block; the second is that of its second half where that has one of its own.
#[inline(always)]
fn block_scales<L: Lanes>(lanes: L, packing: Packing, tile: Tile<'_>, block: usize) -> [L::F; 2] {
    if !packing.is_k() {
        return [lanes.load_f16(&tile.scales[block]); 2];
    }
    let factors = lanes.load_f16(&tile.scales[block / SUPER]);
    let bytes = &tile.byte_scales[block * packing.scales()..][..packing.scales()];
    let first = lanes.mul(factors, lanes.to_f32(lanes.load_i8(&bytes[0])));
    if packing.scales() == 1 {
        return [first; 2];
    }
    let second = lanes.mul(factors, lanes.to_f32(lanes.load_i8(&bytes[1])));
    [first, second]
}

#[inline(always)]
fn block_minima<L: Lanes>(lanes: L, packing: Packing, tile: Tile<'_>, block: usize) -> L::F {
    if !packing.is_k() {
        return lanes.load_f16(&tile.minima[block]);
    }
    let factors = lanes.load_f16(&tile.minima[block / SUPER]);
    lanes.mul(
        factors,
        lanes.to_f32(lanes.load_i8(&tile.byte_minima[block])),
    )
}

/// The eight groups of a block.
#[inline(always)]
fn unpack<L: Lanes, const BITS: usize>(lanes: L, lines: &[[u8; 64]]) -> [L::B; 8] {
    // Loops, because closures would be compiled without the instructions of the level.
    let mut groups = [lanes.load_bytes(&lines[0]); 8];
    if BITS == 8 {
        for group in 1..8 {
            groups[group] = lanes.load_bytes(&lines[group]);
        }
        return groups;
    }
    for line in 0..4 {
        let bytes = lanes.load_bytes(&lines[line]);
        groups[line] = lanes.low_nibbles(bytes);
        groups[line + 4] = lanes.high_nibbles(bytes);
    }
    for group in 0..8 {
        groups[group] = match BITS {
            5 => {
                let high = lanes.load_bytes(&lines[4]);
                lanes.add_high(groups[group], high, group, 0x10)
            }
            6 => {
                let high = lanes.load_bytes(&lines[4 + group / 4]);
                lanes.add_high(groups[group], high, group % 4 * 2, 0x30)
            }
            _ => groups[group],
        };
    }
    groups
}

#[cfg(test)]
mod tests {
    //! Goal: at every level of this processor, products equal their definition bit for bit, for every
    //! packed format and number of rows, and come close to products with unpacked weights.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::models::cpu::packed::tests::{PACKED, pack, random_matrix};

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
    fn defined(matrix: &PackedMatrix, activations: QuantizedRow<'_>, row: usize) -> f32 {
        let (packing, tile, lane) = (matrix.packing, matrix.tile(row / LANES), row % LANES);
        let length = 32 / packing.scales();
        let mut sum = 0f32;
        for (block, scale) in activations.blocks.iter().enumerate() {
            let lines = &tile.quants[block * packing.lines()..][..packing.lines()];
            let x = activations.quants[8 * block..][..8].as_flattened();
            let x = |column: usize| i32::from(x[column].cast_signed());
            for part in 0..packing.scales() {
                let whole: i32 = (part * length..(part + 1) * length)
                    .map(|column| {
                        let quant = i32::from(packing.get(lines, lane, column));
                        (quant - packing.offset) * x(column)
                    })
                    .sum();
                let factor = tile.scale(packing, block, part, lane) * scale.scale;
                sum = (whole as f32).mul_add(factor, sum);
            }
            if packing.has_minimum {
                let total: i32 = (0..32).map(x).sum();
                let minimum = tile.minimum(packing, block, lane);
                sum = minimum.mul_add(scale.scale * total as f32, sum);
            }
        }
        sum
    }

    /// The exact product with the weights of the file, and the size of its terms.
    fn exact(weights: &[f32], activations: QuantizedRow<'_>) -> (f64, f64) {
        let quants = activations.quants.as_flattened();
        let x = quants.iter().enumerate().map(|(column, &quant)| {
            f64::from(activations.blocks[column / 32].scale) * f64::from(quant.cast_signed())
        });
        let products = weights.iter().zip(x).map(|(&w, x)| f64::from(w) * x);
        products.fold((0.0, 0.0), |(sum, size), product| {
            (sum + product, size + product.abs())
        })
    }

    #[test]
    fn products_equal_the_definition_at_every_level() {
        let mut random = StdRng::seed_from_u64(5);
        let pool = Pool::new(2);
        for format in PACKED {
            for block in 1..=20 {
                let rows = random.random_range(1..70);
                let columns = block * format.block_weights();
                let tokens = random.random_range(1..20);
                let matrix = random_matrix(&mut random, format, rows, columns);
                let packed = pack(&matrix).unwrap();
                let values: Vec<f32> = (0..tokens * columns)
                    .map(|_| random.random_range(-3.0..3.0))
                    .collect();
                let mut activations = QuantizedRows::default();
                activations.set(&pool, Level::Portable, &values, columns);
                let expected = product(Level::Portable, &packed, &activations);
                let mut weights = vec![0.0; columns];
                for row in 0..rows {
                    matrix.read_row(row, &mut weights);
                    for token in 0..tokens {
                        let (exact, size) = exact(&weights, activations.row(token));
                        let found = f64::from(expected[token * rows + row]);
                        assert!(
                            (found - exact).abs() <= 1e-5 * size,
                            "{format:?} {found} {exact}"
                        );
                    }
                }
                for level in Level::all() {
                    let mut activations = QuantizedRows::default();
                    activations.set(&pool, level, &values, columns);
                    let results = product(level, &packed, &activations);
                    for token in 0..tokens {
                        for row in 0..rows {
                            let expected = defined(&packed, activations.row(token), row);
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
        for format in PACKED {
            let matrix = random_matrix(&mut random, format, 48, 768);
            let packed = pack(&matrix).unwrap();
            let values: Vec<f32> = (0..768).map(|_| random.random_range(-3.0..3.0)).collect();
            let mut activations = QuantizedRows::default();
            activations.set(&pool, Level::best(), &values, 768);
            let results = product(Level::best(), &packed, &activations);
            let mut weights = vec![0.0; 768];
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
