//! What is done to each row of activations between the products.

use super::lanes::{Kernel, LANES, Lanes, Level, filled};
use super::parts::Chunks;
use super::pool::Pool;

/// Makes each row of `rows` by its number, on all threads.
pub fn make_rows(
    pool: &Pool,
    rows: &mut [f32],
    columns: usize,
    make: impl Fn(usize, &mut [f32]) + Sync,
) {
    pool.for_each(Chunks::new(rows, columns), make);
}

/// Root mean square normalisation (Zhang and Sennrich, arXiv 1910.07467) of a row; all have as many values.
pub fn rms_norm(level: Level, values: &[f32], weights: &[f32], epsilon: f32, results: &mut [f32]) {
    level.run(RmsNorm {
        values,
        weights,
        epsilon,
        results,
    });
}

struct RmsNorm<'a> {
    values: &'a [f32],
    weights: &'a [f32],
    epsilon: f32,
    results: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (vectors, rest) = self.values.as_chunks::<LANES>();
        let mut squares = lanes.splat(0.0);
        for vector in vectors {
            let vector = lanes.load(vector);
            squares = lanes.fma(vector, vector, squares);
        }
        let rest: f32 = rest.iter().map(|value| value * value).sum();
        let mean = (lanes.sum(squares) + rest) / self.values.len() as f32;
        let factor = 1.0 / (mean + self.epsilon).sqrt();
        for ((result, value), weight) in self.results.iter_mut().zip(self.values).zip(self.weights)
        {
            *result = value * factor * weight;
        }
    }
}

/// Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450) of rows that are filled up to whole
/// vectors.
pub struct LayerNorm {
    columns: usize,
    epsilon: f32,
    /// Filled up with zeros, as the shifts are.
    scales: Vec<f32>,
    shifts: Vec<f32>,
}

/// Rows of a piece of work.
const NORM_ROWS: usize = 8;

impl LayerNorm {
    /// `scales` and `shifts` have one value for each column.
    pub fn new(mut scales: Vec<f32>, mut shifts: Vec<f32>, epsilon: f32) -> Self {
        let columns = scales.len();
        assert_eq!(columns, shifts.len());
        scales.resize(filled(columns), 0.0);
        shifts.resize(filled(columns), 0.0);
        Self {
            columns,
            epsilon,
            scales,
            shifts,
        }
    }

    /// Normalises each row; what fills it up becomes zero.
    pub fn apply(&self, pool: &Pool, level: Level, rows: &mut [f32]) {
        let width = self.scales.len();
        let pieces = Chunks::new(rows, NORM_ROWS * width);
        pool.for_each(pieces, |_, rows| {
            level.run(NormaliseRows { norm: self, rows });
        });
    }
}

struct NormaliseRows<'a> {
    norm: &'a LayerNorm,
    rows: &'a mut [f32],
}

impl Kernel for NormaliseRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let norm = self.norm;
        let count = norm.columns as f32;
        let (scales, _) = norm.scales.as_chunks::<LANES>();
        let (shifts, _) = norm.shifts.as_chunks::<LANES>();
        for row in self.rows.chunks_exact_mut(norm.scales.len()) {
            let (row, _) = row.as_chunks_mut::<LANES>();
            let mut total = lanes.splat(0.0);
            for (index, vector) in row.iter().enumerate() {
                let left = norm.columns - index * LANES;
                total = lanes.add(total, lanes.keep_first(lanes.load(vector), left, 0.0));
            }
            let minus_mean = lanes.splat(-(lanes.sum(total) / count));
            let mut squares = lanes.splat(0.0);
            for (index, vector) in row.iter_mut().enumerate() {
                let left = norm.columns - index * LANES;
                let distance = lanes.add(lanes.load(vector), minus_mean);
                let distance = lanes.keep_first(distance, left, 0.0);
                squares = lanes.fma(distance, distance, squares);
                lanes.store(distance, vector);
            }
            let variance = lanes.sum(squares) / count;
            let factor = lanes.splat(1.0 / (variance + norm.epsilon).sqrt());
            for ((vector, scale), shift) in row.iter_mut().zip(scales).zip(shifts) {
                let scaled = lanes.mul(lanes.load(vector), factor);
                let result = lanes.fma(scaled, lanes.load(scale), lanes.load(shift));
                lanes.store(result, vector);
            }
        }
    }
}

/// Each value of the row `gates` becomes x / (1 + exp(-x)) times its neighbour in `values`.
pub fn gate(level: Level, gates: &mut [f32], values: &[f32]) {
    level.run(Gate { gates, values });
}

struct Gate<'a> {
    gates: &'a mut [f32],
    values: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (gates, gates_left) = self.gates.as_chunks_mut::<LANES>();
        let (values, values_left) = self.values.as_chunks::<LANES>();
        for (gates, values) in gates.iter_mut().zip(values) {
            gate_vector(lanes, gates, values);
        }
        let (mut gates, mut values) = ([0.0; LANES], [0.0; LANES]);
        gates[..gates_left.len()].copy_from_slice(gates_left);
        values[..values_left.len()].copy_from_slice(values_left);
        gate_vector(lanes, &mut gates, &values);
        gates_left.copy_from_slice(&gates[..gates_left.len()]);
    }
}

#[inline(always)]
fn gate_vector<L: Lanes>(lanes: L, gates: &mut [f32; LANES], values: &[f32; LANES]) {
    let (x, values) = (lanes.load(gates), lanes.load(values));
    let power = lanes.exp(lanes.mul(x, lanes.splat(-1.0)));
    let share = lanes.div(x, lanes.add(lanes.splat(1.0), power));
    lanes.store(lanes.mul(share, values), gates);
}

/// Cosine and sine of each pair of a head for the position of a row.
#[derive(Default)]
pub struct Turns {
    /// Pairs of a head.
    pub pairs: usize,
    /// Rows × pairs.
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    /// Pairs are neighbours, not one value of each half.
    pub is_interleaved: bool,
}

/// Turns the heads of each row (rows × heads × 2 · pairs) by the angles of its position.
pub fn turn(pool: &Pool, level: Level, turns: &Turns, rows: &mut [f32], columns: usize) {
    let pairs = turns.pairs;
    pool.for_each(Chunks::new(rows, columns), |row, values| {
        level.run(Turn {
            values,
            cos: &turns.cos[row * pairs..][..pairs],
            sin: &turns.sin[row * pairs..][..pairs],
            is_interleaved: turns.is_interleaved,
        });
    });
}

struct Turn<'a> {
    values: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    is_interleaved: bool,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let angles = || self.cos.iter().zip(self.sin);
        let turn = |x: &mut f32, y: &mut f32, (cos, sin): (&f32, &f32)| {
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
        };
        for head in self.values.chunks_exact_mut(2 * self.cos.len()) {
            if self.is_interleaved {
                let (pairs, _) = head.as_chunks_mut::<2>();
                pairs
                    .iter_mut()
                    .zip(angles())
                    .for_each(|([x, y], angle)| turn(x, y, angle));
            } else {
                let (xs, ys) = head.split_at_mut(self.cos.len());
                xs.iter_mut()
                    .zip(ys)
                    .zip(angles())
                    .for_each(|((x, y), angle)| turn(x, y, angle));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: layer normalisation equals its definition, at every level bit for bit the same, and a row
    //! depends on no other.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn layer_norm_equals_its_definition() {
        const EPSILON: f32 = 1e-5;
        let mut random = StdRng::seed_from_u64(8);
        for (columns, rows, offset) in [(1, 1, 0.0), (24, 9, 0.5), (384, 20, -3.0), (1000, 3, 10.0)]
        {
            let mut values = |count: usize| -> Vec<f32> {
                (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
            };
            let (scales, shifts) = (values(columns), values(columns));
            let norm = LayerNorm::new(scales.clone(), shifts.clone(), EPSILON);
            let width = filled(columns);
            let before: Vec<f32> = values(rows * width).iter().map(|x| x + offset).collect();
            let apply = |level: Level, rows: &[f32]| {
                let mut rows = rows.to_vec();
                norm.apply(&Pool::new(2), level, &mut rows);
                rows
            };
            let portable = apply(Level::Portable, &before);
            for level in Level::all() {
                assert!(apply(level, &before) == portable, "{level:?} {columns}");
            }
            for (row, found) in before.chunks(width).zip(portable.chunks(width)) {
                assert_eq!(apply(Level::best(), row), found);
                assert!(found[columns..].iter().all(|value| *value == 0.0));
                let row: Vec<f64> = row[..columns].iter().map(|x| f64::from(*x)).collect();
                let mean = row.iter().sum::<f64>() / columns as f64;
                let squares = row.iter().map(|x| (x - mean).powi(2));
                let variance = squares.sum::<f64>() / columns as f64;
                let deviation = (variance + f64::from(EPSILON)).sqrt();
                for (index, x) in row.iter().enumerate() {
                    let (scale, shift) = (f64::from(scales[index]), f64::from(shifts[index]));
                    let exact = (x - mean) / deviation * scale + shift;
                    assert!((f64::from(found[index]) - exact).abs() < 2e-5, "{columns}");
                }
            }
        }
    }
}
