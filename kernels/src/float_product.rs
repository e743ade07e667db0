//! Activations × weights that are not packed: a few rows of weights are unpacked at a time to f32 and
//! meet all activations.

use pulp::{Arch, Simd, WithSimd};

use super::dot::dots;
use super::parts::{Band, Bands};
use super::pool::Pool;
use super::product::Write;
use crate::Matrix;

/// Weight rows that are unpacked together.
const ROWS: usize = 4;
/// Activation rows that meet them at once.
const TOKENS: usize = 4;
/// Least weight rows of a task: small matrices are not worth many threads.
const TASK_ROWS: usize = 16;

/// tokens × columns activations times the transposed matrix and `scale`: tokens × rows.
pub fn float_product(
    pool: &Pool,
    matrix: &Matrix,
    activations: &[f32],
    results: &mut [f32],
    write: Write,
    scale: f32,
) {
    let tokens = activations.len() / matrix.columns;
    assert_eq!(activations.len(), tokens * matrix.columns);
    assert_eq!(results.len(), tokens * matrix.rows);
    let arch = Arch::new();
    let bands = Bands::new(results, matrix.rows, TASK_ROWS);
    pool.for_each(bands, |task, band| {
        arch.dispatch(Task {
            matrix,
            activations,
            first_row: task * TASK_ROWS,
            tokens,
            band,
            write,
            scale,
        });
    });
}

struct Task<'a> {
    matrix: &'a Matrix,
    activations: &'a [f32],
    first_row: usize,
    tokens: usize,
    band: Band<'a>,
    write: Write,
    scale: f32,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let columns = self.matrix.columns;
        let mut unpacked = vec![0.0; ROWS * columns];
        for first in (0..self.band.columns()).step_by(ROWS) {
            let count = ROWS.min(self.band.columns() - first);
            for (row, values) in unpacked.chunks_exact_mut(columns).take(count).enumerate() {
                let bytes = self.matrix.row(self.first_row + first + row);
                self.matrix.format.unpack(bytes, values);
            }
            // Rows beyond the last are whatever an earlier group left; their results are dropped.
            let weights: [&[f32]; ROWS] =
                std::array::from_fn(|row| &unpacked[row * columns..][..columns]);
            self.multiply(simd, weights, first, count);
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn multiply<S: Simd>(&mut self, simd: S, weights: [&[f32]; ROWS], first: usize, count: usize) {
        let columns = weights[0].len();
        let activations = self.activations;
        let row_of = |token: usize| &activations[token * columns..][..columns];
        let mut token = 0;
        while token + TOKENS <= self.tokens {
            let rows: [&[f32]; TOKENS] = std::array::from_fn(|offset| row_of(token + offset));
            self.store(dots(simd, weights, rows), token, first, count);
            token += TOKENS;
        }
        while token < self.tokens {
            self.store(dots(simd, weights, [row_of(token)]), token, first, count);
            token += 1;
        }
    }

    #[inline(always)]
    fn store<const T: usize>(
        &mut self,
        sums: [[f32; T]; ROWS],
        token: usize,
        first: usize,
        count: usize,
    ) {
        for offset in 0..T {
            let results = &mut self.band.row(token + offset)[first..first + count];
            for (result, sums) in results.iter_mut().zip(sums) {
                let value = sums[offset] * self.scale;
                *result = match self.write {
                    Write::Replace => value,
                    Write::Add => *result + value,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: products equal the definition, and a row does not depend on its neighbours.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn product(matrix: &Matrix, activations: &[f32]) -> Vec<f32> {
        let mut results = vec![0.0; activations.len() / matrix.columns * matrix.rows];
        let write = Write::Replace;
        float_product(&Pool::new(2), matrix, activations, &mut results, write, 1.0);
        results
    }

    #[test]
    fn products_equal_the_definition() {
        let mut random = StdRng::seed_from_u64(3);
        for (rows, columns, tokens) in [(1, 1, 1), (5, 37, 3), (70, 64, 9), (33, 576, 4)] {
            let mut values = |count: usize| -> Vec<f32> {
                (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
            };
            let (weights, activations) = (values(rows * columns), values(tokens * columns));
            let matrix = Matrix::from_f32(rows, columns, &weights).unwrap();
            let result = product(&matrix, &activations);
            for token in 0..tokens {
                let x = &activations[token * columns..][..columns];
                for row in 0..rows {
                    let w = &weights[row * columns..][..columns];
                    let exact: f64 = w
                        .iter()
                        .zip(x)
                        .map(|(&a, &b)| f64::from(a) * f64::from(b))
                        .sum();
                    let found = f64::from(result[token * rows + row]);
                    assert!((found - exact).abs() < 1e-4, "{found} {exact}");
                }
                assert_eq!(product(&matrix, x), result[token * rows..][..rows]);
            }
        }
    }
}
