//! What is done to each row of activations between the products.

use super::lanes::{Kernel, LANES, Lanes, Level};
use super::parts::Chunks;
use super::pool::Pool;

/// Root mean square normalisation (Zhang and Sennrich, arXiv 1910.07467): rows of as many values as
/// `weights` has.
pub(in crate::models) fn rms_norm(
    pool: &Pool,
    level: Level,
    rows: &[f32],
    weights: &[f32],
    epsilon: f32,
    results: &mut [f32],
) {
    let columns = weights.len();
    pool.for_each(Chunks::new(results, columns), |row, results| {
        level.run(RmsNorm {
            values: &rows[row * columns..][..columns],
            weights,
            epsilon,
            results,
        });
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

/// Each value of `gates` becomes x / (1 + exp(-x)) times its neighbour in `values`.
pub(in crate::models) fn gate(
    pool: &Pool,
    level: Level,
    gates: &mut [f32],
    values: &[f32],
    columns: usize,
) {
    pool.for_each(Chunks::new(gates, columns), |row, gates| {
        let values = &values[row * columns..][..columns];
        level.run(Gate { gates, values });
    });
}

struct Gate<'a> {
    gates: &'a mut [f32],
    values: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (gates, values) in self.gates.chunks_mut(LANES).zip(self.values.chunks(LANES)) {
            let (mut gate, mut value) = ([0.0; LANES], [0.0; LANES]);
            gate[..gates.len()].copy_from_slice(gates);
            value[..values.len()].copy_from_slice(values);
            let x = lanes.load(&gate);
            let power = lanes.exp(lanes.mul(x, lanes.splat(-1.0)));
            let one = lanes.splat(1.0);
            let gated = lanes.mul(lanes.div(x, lanes.add(one, power)), lanes.load(&value));
            lanes.store(gated, &mut gate);
            gates.copy_from_slice(&gate[..gates.len()]);
        }
    }
}

/// Cosine and sine of each pair of a head for the position of a row.
pub(in crate::models) struct Turns {
    /// Pairs of a head.
    pub pairs: usize,
    /// Rows × pairs.
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    /// Pairs are neighbours, not one value of each half.
    pub is_interleaved: bool,
}

/// Turns the heads of each row (rows × heads × 2 · pairs) by the angles of its position.
pub(in crate::models) fn turn(
    pool: &Pool,
    level: Level,
    turns: &Turns,
    rows: &mut [f32],
    columns: usize,
) {
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
