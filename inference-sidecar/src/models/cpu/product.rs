//! Activations × packed weights: a few rows of weights are unpacked at a time and meet all activations.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dot::dots;
use crate::models::Matrix;

/// Weight rows that are unpacked together.
const ROWS: usize = 4;
/// Activation rows that meet them at once.
const TOKENS: usize = 4;
/// Least weight rows of a task: small matrices are not worth many threads.
const TASK_ROWS: usize = 16;

/// tokens × columns activations times the transposed matrix: tokens × rows.
pub fn product(matrix: &Matrix, activations: &[f32]) -> Vec<f32> {
    let (rows, columns) = (matrix.rows, matrix.columns);
    let tokens = activations.len() / columns;
    assert_eq!(activations.len(), tokens * columns);
    let arch = Arch::new();
    // Row by row of the matrix first, because each task owns whole rows.
    let mut by_row = vec![0.0; rows * tokens];
    by_row
        .par_chunks_mut(TASK_ROWS * tokens)
        .enumerate()
        .for_each(|(task, results)| {
            arch.dispatch(Task {
                matrix,
                activations,
                first_row: task * TASK_ROWS,
                tokens,
                results,
            });
        });
    if tokens == 1 {
        return by_row;
    }
    let mut by_token = vec![0.0; rows * tokens];
    by_token
        .par_chunks_mut(rows)
        .enumerate()
        .for_each(|(token, results)| {
            for (row, result) in results.iter_mut().enumerate() {
                *result = by_row[row * tokens + token];
            }
        });
    by_token
}

struct Task<'a> {
    matrix: &'a Matrix,
    activations: &'a [f32],
    first_row: usize,
    tokens: usize,
    /// Rows × tokens.
    results: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.matrix.columns;
        let mut unpacked = vec![0.0; ROWS * columns];
        let groups = self.results.chunks_mut(ROWS * self.tokens);
        for (group, results) in groups.enumerate() {
            let first = self.first_row + group * ROWS;
            let count = results.len() / self.tokens;
            for (row, values) in unpacked.chunks_exact_mut(columns).take(count).enumerate() {
                let bytes = self.matrix.row(first + row);
                self.matrix.format.unpack(bytes, values);
            }
            // Rows beyond the last are whatever an earlier group left; their results are dropped.
            let weights: [&[f32]; ROWS] =
                std::array::from_fn(|row| &unpacked[row * columns..][..columns]);
            multiply(simd, weights, self.activations, self.tokens, results);
        }
    }
}

#[inline(always)]
fn multiply<S: Simd>(
    simd: S,
    weights: [&[f32]; ROWS],
    activations: &[f32],
    tokens: usize,
    results: &mut [f32],
) {
    let columns = weights[0].len();
    let row_of = |token: usize| &activations[token * columns..][..columns];
    let mut token = 0;
    while token + TOKENS <= tokens {
        let rows: [&[f32]; TOKENS] = std::array::from_fn(|offset| row_of(token + offset));
        store(dots(simd, weights, rows), token, tokens, results);
        token += TOKENS;
    }
    while token < tokens {
        store(dots(simd, weights, [row_of(token)]), token, tokens, results);
        token += 1;
    }
}

#[inline(always)]
fn store<const T: usize>(sums: [[f32; T]; ROWS], token: usize, tokens: usize, results: &mut [f32]) {
    for (row, sums) in results.chunks_exact_mut(tokens).zip(sums) {
        row[token..token + T].copy_from_slice(&sums);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: products equal the definition, and a row does not depend on its neighbours.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

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
