//! Activations in f32 × weights of 16 or 32 bits.
//!
//! Each fourth column goes to the same of four sums, in the order of the columns, which are added at the end in
//! pairs: a single sum would wait for each of its additions.

use super::{CACHE, Results, prefetch_ahead};
use crate::dense::{DenseMatrix, Tiles, Weight, with_tiles};
use crate::lanes::{Kernel, LANES, Lanes};

/// Sums of a result.
const SUMS: usize = 4;
/// Rows of activations that a tile meets at once.
const ROWS: usize = 4;

/// Some tiles of a matrix and all rows.
pub(super) struct Piece<'a> {
    pub matrix: &'a DenseMatrix,
    /// Rows × columns of the matrix.
    pub rows: &'a [f32],
    pub results: Results<'a>,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        with_tiles!(&self.matrix.tiles, tiles => self.tiles(lanes, tiles));
    }
}

impl Piece<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, W: Weight>(&mut self, lanes: L, tiles: &[W]) {
        let columns = self.matrix.columns();
        let rows = self.rows.len() / columns;
        let rows_together = (CACHE / (columns * size_of::<f32>())).max(1);
        let rows_together = rows_together.next_multiple_of(ROWS);
        let (tiles, _) = tiles.as_chunks::<LANES>();
        let mut first = 0;
        while first < rows {
            let end = rows.min(first + rows_together);
            for index in 0..self.results.tiles() {
                let tile = &tiles[(self.results.first_tile + index) * columns..][..columns];
                let mut row = first;
                while row < end {
                    row += match end - row {
                        ROWS.. if L::SUMS >= ROWS * SUMS => {
                            self.tile::<L, W, ROWS>(lanes, tile, index, row)
                        }
                        _ => self.tile::<L, W, 1>(lanes, tile, index, row),
                    };
                }
            }
            first = end;
        }
    }

    /// Computes `T` rows of activations; returns `T`.
    #[inline(always)]
    fn tile<L: Lanes, W: Weight, const T: usize>(
        &mut self,
        lanes: L,
        tile: &[[W; LANES]],
        index: usize,
        first: usize,
    ) -> usize {
        let mut rows: [&[f32]; T] = [&[]; T];
        for (row, values) in rows.iter_mut().enumerate() {
            *values = &self.rows[(first + row) * tile.len()..][..tile.len()];
        }
        let sums = dots::<L, W, T>(lanes, tile, rows);
        self.results.store(lanes, sums, first, index);
        T
    }
}

/// Sixteen weight rows with `T` rows of activations.
#[inline(always)]
fn dots<L: Lanes, W: Weight, const T: usize>(
    lanes: L,
    tile: &[[W; LANES]],
    rows: [&[f32]; T],
) -> [L::F; T] {
    let (groups, last) = tile.as_chunks::<SUMS>();
    let mut sums = [[lanes.splat(0.0); SUMS]; T];
    let mut values: [&[[f32; SUMS]]; T] = [&[]; T];
    for row in 0..T {
        // Known to be equal, the lengths are not checked in the loop.
        values[row] = &rows[row].as_chunks().0[..groups.len()];
    }
    for group in 0..groups.len() {
        let bytes = size_of::<[[W; LANES]; SUMS]>();
        prefetch_ahead(tile, group * bytes, bytes);
        let mut weights = [lanes.splat(0.0); SUMS];
        for part in 0..SUMS {
            weights[part] = W::load(lanes, &groups[group][part]);
        }
        for row in 0..T {
            let x = values[row][group];
            for part in 0..SUMS {
                sums[row][part] = lanes.fma(weights[part], lanes.splat(x[part]), sums[row][part]);
            }
        }
    }
    let mut results = [lanes.splat(0.0); T];
    for row in 0..T {
        let [mut a, mut b, mut c, d] = sums[row];
        let x = &rows[row][groups.len() * SUMS..];
        for (sum, (weights, x)) in [&mut a, &mut b, &mut c].into_iter().zip(last.iter().zip(x)) {
            *sum = lanes.fma(W::load(lanes, weights), lanes.splat(*x), *sum);
        }
        results[row] = lanes.add(lanes.add(a, b), lanes.add(c, d));
    }
    results
}

#[cfg(test)]
mod tests {
    //! Goal: at every level of this processor, products equal their definition bit for bit, for every format
    //! and number of rows, and come close to exact ones.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::{Product, Write, multiply};
    use super::SUMS;
    use crate::dense::tests::{pack, random};
    use crate::packed::tests as packed;
    use crate::quantized::QuantizedRows;
    use crate::{Format, Level, Pool};

    /// The definition, and the exact product.
    fn defined(weights: &[f32], x: &[f32]) -> (f32, f64) {
        let mut sums = [0.0f32; SUMS];
        let mut exact = 0.0;
        for (column, (w, x)) in weights.iter().zip(x).enumerate() {
            sums[column % SUMS] = w.mul_add(*x, sums[column % SUMS]);
            exact += f64::from(*w) * f64::from(*x);
        }
        ((sums[0] + sums[1]) + (sums[2] + sums[3]), exact)
    }

    fn values(rng: &mut StdRng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn products_equal_the_definition_at_every_level() {
        let mut rng = StdRng::seed_from_u64(3);
        let sizes = [
            (1, 1, 1),
            (5, 37, 3),
            (70, 64, 9),
            (33, 576, 4),
            (16, 16, 130),
            // Pieces of several tiles, and a narrower last one.
            (1000, 8, 17),
            // Activations that do not stay near a thread all at once.
            (40, 20_000, 9),
        ];
        for format in [Format::F32, Format::F16, Format::Bf16] {
            for (rows, columns, tokens) in sizes {
                let matrix = random(&mut rng, format, rows, columns);
                let weights = matrix.to_f32();
                let dense = pack(&matrix);
                let bias: Vec<f32> = (0..rows).map(|row| row as f32 / 7.0).collect();
                let x = values(&mut rng, tokens * columns);
                for level in Level::all() {
                    for (write, has_bias) in [(Write::Replace, true), (Write::Add, false)] {
                        let mut results = vec![0.5; tokens * rows];
                        let mut product = Product::dense(&dense, &x, &mut results, write);
                        if has_bias {
                            product = product.with_bias(&bias);
                        }
                        multiply(&Pool::new(1), level, &mut [product]);
                        for (token, results) in results.chunks(rows).enumerate() {
                            for (row, result) in results.iter().enumerate() {
                                let w = &weights[row * columns..][..columns];
                                let (sum, exact) = defined(w, &x[token * columns..][..columns]);
                                let expected = if has_bias { sum + bias[row] } else { 0.5 + sum };
                                assert_eq!(*result, expected, "{format:?} {level:?}");
                                assert!((f64::from(sum) - exact).abs() < 1e-3);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn products_of_several_kinds_are_computed_together() {
        let mut rng = StdRng::seed_from_u64(9);
        let (level, pool) = (Level::best(), Pool::new(2));
        let x = values(&mut rng, 9 * 64);
        let mut quantized = QuantizedRows::default();
        quantized.set(&pool, level, &x, 64);
        let low = pack(&random(&mut rng, Format::Bf16, 6, 64));
        let high = pack(&random(&mut rng, Format::F32, 500, 64));
        let packed = packed::pack(&packed::random_matrix(&mut rng, Format::Q4_1, 700, 64)).unwrap();
        let mut results = [vec![0.0; 9 * 6], vec![0.0; 9 * 700], vec![0.0; 2 * 500]];
        let [of_low, of_packed, of_high] = &mut results;
        multiply(
            &pool,
            level,
            &mut [
                Product::dense(&low, &x, of_low, Write::Replace),
                Product::quantized(&packed, &quantized, of_packed, Write::Replace),
                Product::dense(&high, &x[3 * 64..5 * 64], of_high, Write::Replace),
            ],
        );
        let mut alone = [vec![0.0; 9 * 6], vec![0.0; 9 * 700], vec![0.0; 9 * 500]];
        let [of_low, of_packed, of_high] = &mut alone;
        for product in [
            Product::dense(&low, &x, of_low, Write::Replace),
            Product::quantized(&packed, &quantized, of_packed, Write::Replace),
            Product::dense(&high, &x, of_high, Write::Replace),
        ] {
            multiply(&Pool::new(1), level, &mut [product]);
        }
        assert!(results[0] == alone[0] && results[1] == alone[1]);
        assert!(results[2] == alone[2][3 * 500..5 * 500]);
    }
}
