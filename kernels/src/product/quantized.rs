//! Quantised activations × packed weights.
//!
//! A block of 32 columns gives whole numbers first, which are exact; they are scaled and summed block
//! by block in f32.

use std::ops::Range;

use super::{CACHE, NEAR, Results, prefetch_ahead};
use crate::Format;
use crate::lanes::{Kernel, Lanes};
use crate::packed::{PackedMatrix, SUPER, Tile};
use crate::quantized::{Block, GROUP, QuantizedRows};

/// Some tiles of a matrix and all rows.
pub(super) struct Piece<'a> {
    pub matrix: &'a PackedMatrix,
    pub rows: &'a QuantizedRows,
    pub results: Results<'a>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        // Each format gets loops of its own.
        match self.matrix.format() {
            Format::Q4_0 => self.tiles::<L, 4, 3, false>(lanes),
            Format::Q4_1 => self.tiles::<L, 4, 0, false>(lanes),
            Format::Q4K => self.tiles::<L, 4, 0, true>(lanes),
            Format::Q5_0 => self.tiles::<L, 5, 4, false>(lanes),
            Format::Q5_1 => self.tiles::<L, 5, 0, false>(lanes),
            Format::Q5K => self.tiles::<L, 5, 0, true>(lanes),
            Format::Q6K => self.tiles::<L, 6, 5, true>(lanes),
            Format::Q8_0 => self.tiles::<L, 8, 7, false>(lanes),
            Format::F32 | Format::F16 | Format::Bf16 => unreachable!("these are not packed"),
        }
    }
}

impl Piece<'_> {
    /// A format is described by the bits of a quant, the power of two that is subtracted from it (0: there
    /// is a minimum instead), and whether it is a K format.
    #[inline(always)]
    fn tiles<L: Lanes, const BITS: usize, const SHIFT: u32, const K: bool>(mut self, lanes: L) {
        let rows = self.rows.rows();
        let group_bytes = size_of_val(self.rows.group(0));
        let rows_together = (CACHE / group_bytes).max(1) * GROUP;
        let tiles_together = (NEAR / self.matrix.tile_bytes()).max(1);
        let tiles = self.results.tiles();
        for first in (0..rows).step_by(rows_together) {
            let end = rows.min(first + rows_together);
            for first_tile in (0..tiles).step_by(tiles_together) {
                let tiles = first_tile..tiles.min(first_tile + tiles_together);
                let mut row = first;
                while row < end {
                    row += match end - row {
                        8.. if L::SUMS > 1 => {
                            self.meet::<L, BITS, SHIFT, K, 8>(lanes, tiles.clone(), row)
                        }
                        4.. if L::SUMS > 1 => {
                            self.meet::<L, BITS, SHIFT, K, 4>(lanes, tiles.clone(), row)
                        }
                        _ => self.meet::<L, BITS, SHIFT, K, 1>(lanes, tiles.clone(), row),
                    };
                }
            }
        }
    }

    /// Some tiles with `T` rows of activations, which are of one group; returns `T`.
    #[inline(always)]
    fn meet<L: Lanes, const BITS: usize, const SHIFT: u32, const K: bool, const T: usize>(
        &mut self,
        lanes: L,
        tiles: Range<usize>,
        first: usize,
    ) -> usize {
        let blocks = self.rows.group(first / GROUP);
        for index in tiles {
            let tile = self.matrix.tile(self.results.first_tile + index);
            let sums = dots::<L, BITS, SHIFT, K, T>(lanes, tile, blocks, first % GROUP);
            self.results.store(lanes, sums, first, index);
        }
        T
    }
}

/// Sixteen weight rows with `T` rows of activations, from row `first` of a group on.
#[inline(always)]
fn dots<L: Lanes, const BITS: usize, const SHIFT: u32, const K: bool, const T: usize>(
    lanes: L,
    tile: Tile<'_>,
    blocks: &[Block],
    first: usize,
) -> [L::F; T] {
    let mut sums = [lanes.splat(0.0); T];
    let (lines, _) = tile.quants.as_chunks::<BITS>();
    // Known to be equal, the lengths are not checked in the loop.
    let lines = &lines[..blocks.len()];
    assert!(first + T <= GROUP);
    let step = tile.bytes.len() / blocks.len();
    for block in 0..blocks.len() {
        prefetch_ahead(tile.bytes, block * step, step);
        let weights = unpack::<L, BITS>(lanes, &lines[block]);
        let factors = block_scales::<L, BITS, K>(lanes, tile, block);
        let x = &blocks[block];
        if SHIFT > 0 {
            for row in 0..T {
                let at = first + row;
                let scale = lanes.splat(x.scales[at]);
                // Halves that have a scale of their own.
                let parts = if BITS == 6 { 2 } else { 1 };
                for part in 0..parts {
                    let minus_sums = if BITS == 6 {
                        &x.minus_halves[part]
                    } else {
                        &x.minus_sums
                    };
                    let whole = lanes.shift_left::<SHIFT>(lanes.splat_i32(minus_sums[at]));
                    let groups = part * 8 / parts..(part + 1) * 8 / parts;
                    let (weights, x) = (&weights[groups.clone()], &x.quants[at][groups]);
                    let whole = dot_all::<L, BITS>(lanes, whole, weights, x);
                    let factor = lanes.mul(factors[part], scale);
                    sums[row] = lanes.fma(lanes.to_f32(whole), factor, sums[row]);
                }
            }
        } else {
            let minima = block_minima::<L, K>(lanes, tile, block);
            for row in 0..T {
                let at = first + row;
                let zero = lanes.splat_i32(0);
                let whole = dot_all::<L, BITS>(lanes, zero, &weights, &x.quants[at]);
                let factor = lanes.mul(factors[0], lanes.splat(x.scales[at]));
                sums[row] = lanes.fma(lanes.to_f32(whole), factor, sums[row]);
                sums[row] = lanes.fma(minima, lanes.splat(x.scaled_sums[at]), sums[row]);
            }
        }
    }
    sums
}

#[inline(always)]
fn dot_all<L: Lanes, const BITS: usize>(
    lanes: L,
    sum: L::I,
    weights: &[L::B],
    x: &[[u8; 4]],
) -> L::I {
    match BITS {
        8 => lanes.dot_groups(sum, weights, x),
        _ => lanes.dot_small(sum, weights, x, 128 >> BITS),
    }
}

/// The scales of a block; the second is that of its second half where that has one of its own.
#[inline(always)]
fn block_scales<L: Lanes, const BITS: usize, const K: bool>(
    lanes: L,
    tile: Tile<'_>,
    block: usize,
) -> [L::F; 2] {
    if !K {
        return [lanes.load_f16(&tile.scales[block]); 2];
    }
    let factors = lanes.load_f16(&tile.scales[block / SUPER]);
    if BITS != 6 {
        let bytes = lanes.load_i8(&tile.byte_scales[block]);
        return [lanes.mul(factors, lanes.to_f32(bytes)); 2];
    }
    let bytes = &tile.byte_scales[2 * block..][..2];
    let mut scales = [factors; 2];
    for half in 0..2 {
        scales[half] = lanes.mul(factors, lanes.to_f32(lanes.load_i8(&bytes[half])));
    }
    scales
}

#[inline(always)]
fn block_minima<L: Lanes, const K: bool>(lanes: L, tile: Tile<'_>, block: usize) -> L::F {
    if !K {
        return lanes.load_f16(&tile.minima[block]);
    }
    let factors = lanes.load_f16(&tile.minima[block / SUPER]);
    let bytes = lanes.load_i8(&tile.byte_minima[block]);
    lanes.mul(factors, lanes.to_f32(bytes))
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

    use super::super::{Product, Write, multiply};
    use super::*;
    use crate::lanes::LANES;
    use crate::packed::tests::{PACKED, pack, random_matrix};
    use crate::{Level, Pool};

    fn product(level: Level, matrix: &PackedMatrix, activations: &QuantizedRows) -> Vec<f32> {
        let mut results = vec![1.0; activations.rows() * matrix.rows()];
        let product = Product::quantized(matrix, activations, &mut results, Write::Replace);
        multiply(&Pool::new(2), level, &mut [product]);
        results
    }

    /// The definition: block by block, the whole number scaled, then the minimum.
    fn defined(
        matrix: &PackedMatrix,
        activations: &QuantizedRows,
        token: usize,
        row: usize,
    ) -> f32 {
        let (packing, tile, lane) = (matrix.packing, matrix.tile(row / LANES), row % LANES);
        let length = 32 / packing.scales();
        let mut sum = 0f32;
        for (block, x) in activations.group(token / GROUP).iter().enumerate() {
            let lines = &tile.quants[block * packing.lines()..][..packing.lines()];
            let (x, scale) = (quants(x, token), x.scales[token % GROUP]);
            for part in 0..packing.scales() {
                let whole: i32 = (part * length..(part + 1) * length)
                    .map(|column| {
                        let quant = i32::from(packing.get(lines, lane, column));
                        (quant - packing.offset) * x[column]
                    })
                    .sum();
                let factor = tile.scale(packing, block, part, lane) * scale;
                sum = (whole as f32).mul_add(factor, sum);
            }
            if packing.has_minimum {
                let total: i32 = x.iter().sum();
                let minimum = tile.minimum(packing, block, lane);
                sum = minimum.mul_add(scale * total as f32, sum);
            }
        }
        sum
    }

    fn quants(block: &Block, token: usize) -> Vec<i32> {
        let quants = block.quants[token % GROUP].as_flattened().iter();
        quants.map(|quant| i32::from(quant.cast_signed())).collect()
    }

    /// The exact product with the weights of the file, and the size of its terms.
    fn exact(weights: &[f32], activations: &QuantizedRows, token: usize) -> (f64, f64) {
        let blocks = activations.group(token / GROUP).iter();
        let x = blocks.flat_map(|block| {
            let scale = f64::from(block.scales[token % GROUP]);
            quants(block, token)
                .into_iter()
                .map(move |quant| scale * f64::from(quant))
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
                        let (exact, size) = exact(&weights, &activations, token);
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
                            let expected = defined(&packed, &activations, token, row);
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
