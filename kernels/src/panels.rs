//! Rows of activations × weights in panels, both in bf16, with bias and what follows.
//!
//! A panel has the weights of sixteen outputs, two inputs after two inputs, so that one load brings two
//! weights of each. Inputs are taken in blocks, for which a few panels stay in the nearest cache while all
//! rows of a piece meet them. Each result is one chain in f32 that begins with the bias and takes the inputs
//! pair by pair, the second one first, as the instruction `vdpbf16ps` does: it depends on no other row, nor
//! on how the work is cut.
//!
//! Rows are filled up to whole vectors ([`filled`]), as are the outputs.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

use half::bf16;

use super::activation::{Activation, activate};
use super::lanes::{Kernel, LANES, Lanes, Level, filled};
use super::parts::{Band, Bands, Chunks, Joined};
use super::pool::Pool;
use crate::Matrix;

/// Pairs of inputs that are taken together.
const DEPTH: usize = 192;
/// Panels that stay in the cache together; the widest tile has as many.
const GROUP: usize = 2;
/// Rows of a piece of work: a multiple of every tile's.
const ROWS: usize = 96;
/// Pieces of work for each thread, so that one that is slow holds the others up only briefly.
const PIECES: usize = 4;

/// Two weights of sixteen outputs, in a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u16; 2 * LANES]);

impl Line {
    const ZERO: Self = Self([0; 2 * LANES]);
}

/// Rows of activations in bf16, filled up with zeros; the buffer is kept from step to step.
#[derive(Default)]
pub struct HalfRows {
    width: usize,
    values: Vec<u16>,
}

/// Values of a piece of rounding.
const ROUNDED: usize = 1 << 14;

impl HalfRows {
    /// Replaces all rows; those of `rows` have `width` values, filled up.
    pub fn set(&mut self, pool: &Pool, level: Level, rows: &[f32], width: usize) {
        assert!(width.is_multiple_of(LANES) && rows.len().is_multiple_of(width));
        self.width = width;
        self.values.resize(rows.len(), 0);
        let parts = Chunks::new(&mut self.values, ROUNDED);
        pool.for_each(parts, |part, results| {
            let values = &rows[part * ROUNDED..][..results.len()];
            level.run(Round { values, results });
        });
    }

    fn count(&self) -> usize {
        self.values.len() / self.width
    }
}

struct Round<'a> {
    values: &'a [f32],
    results: &'a mut [u16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (values, _) = self.values.as_chunks::<LANES>();
        let (results, _) = self.results.as_chunks_mut::<LANES>();
        for (values, results) in values.iter().zip(results) {
            *results = lanes.to_bf16(lanes.load(values));
        }
    }
}

/// Linear layers over the same inputs, packed together. Their results lie side by side.
pub struct Panels {
    /// Pairs of inputs.
    pairs: usize,
    /// Panel by panel.
    weights: Vec<Line>,
    /// Of the outputs of each panel.
    bias: Vec<[f32; LANES]>,
}

/// What becomes of the products.
#[derive(Debug, Clone, Copy)]
pub enum Finish {
    Replace,
    /// Added to what is there.
    Add,
    Activate(Activation),
}

impl Panels {
    /// Each layer has its weights, outputs × inputs, which are rounded to bf16, and one value of bias for
    /// each output.
    pub fn pack(layers: &[(Matrix, Vec<f32>)]) -> Self {
        let inputs = layers[0].0.columns;
        let count: usize = layers.iter().map(|(m, _)| m.rows.div_ceil(LANES)).sum();
        let pairs = inputs.div_ceil(2);
        let mut panels = Self {
            pairs,
            weights: Vec::with_capacity(count * pairs),
            bias: Vec::with_capacity(count),
        };
        for (matrix, bias) in layers {
            assert_eq!((matrix.columns, matrix.rows), (inputs, bias.len()));
            for first in (0..matrix.rows).step_by(LANES) {
                panels.push(matrix, bias, first);
            }
        }
        panels
    }

    fn push(&mut self, matrix: &Matrix, bias: &[f32], first: usize) {
        let start = self.weights.len();
        // Outputs that fill up the last panel stay zero.
        self.weights.resize(start + self.pairs, Line::ZERO);
        let mut panel_bias = [0.0; LANES];
        let mut row = vec![0.0; matrix.columns];
        for lane in 0..LANES.min(matrix.rows - first) {
            matrix.read_row(first + lane, &mut row);
            for (line, pair) in self.weights[start..].iter_mut().zip(row.chunks(2)) {
                for (side, weight) in pair.iter().enumerate() {
                    line.0[2 * lane + side] = bf16::from_f32(*weight).to_bits();
                }
            }
            panel_bias[lane] = bias[first + lane];
        }
        self.bias.push(panel_bias);
    }

    /// Values of a row of inputs, filled up.
    pub fn width(&self) -> usize {
        filled(2 * self.pairs)
    }

    fn count(&self) -> usize {
        self.bias.len()
    }

    fn panel(&self, index: usize) -> &[Line] {
        &self.weights[index * self.pairs..][..self.pairs]
    }
}

/// The results of all layers of `panels` for each row.
pub fn project(
    pool: &Pool,
    level: Level,
    panels: &Panels,
    rows: &HalfRows,
    results: &mut [f32],
    finish: Finish,
) {
    let (count, outputs) = (rows.count(), panels.count() * LANES);
    assert_eq!(rows.width, panels.width());
    assert_eq!(results.len(), count * outputs);
    let blocks = count.div_ceil(ROWS).max(1);
    let bands = (pool.threads() * PIECES).div_ceil(blocks);
    let piece = panels.count().div_ceil(bands).next_multiple_of(GROUP);
    let outputs: Vec<_> = results
        .chunks_mut(ROWS * outputs)
        .map(|results| Bands::new(results, outputs, piece * LANES))
        .collect();
    pool.for_each(Joined::new(&outputs), |_, (block, part, band)| {
        let values = &rows.values[block * ROWS * rows.width..];
        level.run(Piece {
            panels,
            first_panel: part * piece,
            width: rows.width,
            rows: &values[..values.len().min(ROWS * rows.width)],
            band,
            finish,
        });
    });
}

/// Some rows and some panels.
struct Piece<'a> {
    panels: &'a Panels,
    first_panel: usize,
    /// Values of a row.
    width: usize,
    rows: &'a [u16],
    band: Band<'a>,
    finish: Finish,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let panels = self.band.columns() / LANES;
        let rows = self.rows.len() / self.width;
        let mut pair = 0;
        while pair < self.panels.pairs {
            let mut panel = 0;
            while panel < panels {
                self.group(lanes, pair, panel, rows);
                panel += GROUP;
            }
            pair += DEPTH;
        }
        if let Finish::Activate(activation) = self.finish {
            for row in 0..rows {
                activate(lanes, activation, self.band.row(row));
            }
        }
    }
}

impl Piece<'_> {
    /// A block of pairs for a few panels and all rows.
    #[inline(always)]
    fn group<L: Lanes>(&mut self, lanes: L, pair: usize, panel: usize, rows: usize) {
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                12.. if L::SUMS >= 24 => self.tile::<L, 12, 2>(lanes, pair, panel, row),
                6.. if L::SUMS >= 24 => self.tile::<L, 6, 2>(lanes, pair, panel, row),
                4.. => self.tile::<L, 4, 1>(lanes, pair, panel, row),
                2.. => self.tile::<L, 2, 2>(lanes, pair, panel, row),
                _ => self.tile::<L, 1, 2>(lanes, pair, panel, row),
            };
        }
    }

    /// `N` rows and the panels of a group, `W` at once where there are as many; returns `N`.
    #[inline(always)]
    fn tile<L: Lanes, const N: usize, const W: usize>(
        &mut self,
        lanes: L,
        pair: usize,
        panel: usize,
        row: usize,
    ) -> usize {
        let end = (panel + GROUP).min(self.band.columns() / LANES);
        let mut panel = panel;
        while panel + W <= end {
            self.add::<L, N, W>(lanes, pair, panel, row);
            panel += W;
        }
        if panel < end {
            self.add::<L, N, 1>(lanes, pair, panel, row);
        }
        N
    }

    #[inline(always)]
    fn add<L: Lanes, const N: usize, const W: usize>(
        &mut self,
        lanes: L,
        pair: usize,
        panel: usize,
        row: usize,
    ) {
        let depth = DEPTH.min(self.panels.pairs - pair);
        let mut rows: [&[[u16; 2]]; N] = [&[]; N];
        for n in 0..N {
            let (pairs, _) = self.rows[(row + n) * self.width..].as_chunks();
            rows[n] = &pairs[pair..][..depth];
        }
        let mut panels: [&[Line]; W] = [&[]; W];
        let mut sums = [[lanes.splat(0.0); W]; N];
        for w in 0..W {
            let index = self.first_panel + panel + w;
            panels[w] = &self.panels.panel(index)[pair..][..depth];
            let bias = lanes.load(&self.panels.bias[index]);
            for n in 0..N {
                let result = lanes.load(self.result(row + n, panel + w));
                sums[n][w] = match (pair, self.finish) {
                    (0, Finish::Add) => lanes.add(bias, result),
                    (0, _) => bias,
                    _ => result,
                };
            }
        }
        let sums = add_products(lanes, rows, panels, sums);
        for n in 0..N {
            for w in 0..W {
                lanes.store(sums[n][w], self.result(row + n, panel + w));
            }
        }
    }

    /// Where the sixteen results of a row and a panel lie.
    #[inline(always)]
    fn result(&mut self, row: usize, panel: usize) -> &mut [f32; LANES] {
        let (vectors, _) = self.band.row(row).as_chunks_mut();
        &mut vectors[panel]
    }
}

/// Adds to each sum the products of its row with its panel, one after the other; all have the same
/// length.
#[inline(always)]
fn add_products<L: Lanes, const N: usize, const W: usize>(
    lanes: L,
    mut rows: [&[[u16; 2]]; N],
    mut panels: [&[Line]; W],
    mut sums: [[L::F; W]; N],
) -> [[L::F; W]; N] {
    // Known to be equal, the lengths are not checked in the loop.
    let depth = panels[0].len();
    for n in 0..N {
        rows[n] = &rows[n][..depth];
    }
    for w in 0..W {
        panels[w] = &panels[w][..depth];
    }
    for k in 0..depth {
        let mut weights = [lanes.load_halves(&panels[0][k].0); W];
        for w in 1..W {
            weights[w] = lanes.load_halves(&panels[w][k].0);
        }
        for n in 0..N {
            let pair = rows[n][k];
            for w in 0..W {
                sums[n][w] = lanes.dot_halves(sums[n][w], weights[w], pair);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    //! Goal: at every level, products equal their definition bit for bit, for any sizes and cuts, and come
    //! close to exact ones.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    struct Case {
        inputs: usize,
        /// Outputs × inputs, and bias, of each layer.
        layers: Vec<(Vec<f32>, Vec<f32>)>,
        /// Rows, not filled up.
        rows: Vec<Vec<f32>>,
        /// What is in the results before.
        before: f32,
    }

    impl Case {
        fn random(inputs: usize, outputs: &[usize], rows: usize) -> Self {
            let mut random = StdRng::seed_from_u64((inputs * rows) as u64);
            let mut values = |count: usize| -> Vec<f32> {
                (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
            };
            let layer = |outputs: &usize| (values(outputs * inputs), values(*outputs));
            Self {
                inputs,
                layers: outputs.iter().map(layer).collect(),
                rows: (0..rows).map(|_| values(inputs)).collect(),
                before: 0.75,
            }
        }

        /// Results, not filled up.
        fn project(&self, level: Level, finish: Finish, threads: usize) -> Vec<Vec<f32>> {
            let pack = |(weights, bias): &(Vec<f32>, Vec<f32>)| {
                let matrix = Matrix::from_f32(bias.len(), self.inputs, weights).unwrap();
                (matrix, bias.clone())
            };
            let layers: Vec<_> = self.layers.iter().map(pack).collect();
            let panels = Panels::pack(&layers);
            let mut rows = vec![0.0; self.rows.len() * filled(self.inputs)];
            for (filled, row) in rows.chunks_mut(filled(self.inputs)).zip(&self.rows) {
                filled[..row.len()].copy_from_slice(row);
            }
            let width = panels.count() * LANES;
            let mut results = vec![self.before; self.rows.len() * width];
            let pool = Pool::new(threads);
            let mut halves = HalfRows::default();
            halves.set(&pool, level, &rows, filled(self.inputs));
            project(&pool, level, &panels, &halves, &mut results, finish);
            let trim = |row: &[f32]| {
                let mut rest = row;
                let mut trimmed = Vec::new();
                for (_, bias) in &self.layers {
                    trimmed.extend_from_slice(&rest[..bias.len()]);
                    rest = &rest[filled(bias.len())..];
                }
                trimmed
            };
            results.chunks(width).map(trim).collect()
        }

        /// Output by output: the chain in f32, the exact result, and the size of its terms.
        fn defined(&self, row: &[f32], start: f32) -> Vec<(f32, f64, f64)> {
            let define = |(bias, weights): (&f32, &[f32])| {
                let (mut chain, mut exact) = (bias + start, f64::from(bias + start));
                let mut size = exact.abs();
                let rounded = |x: f32| bf16::from_f32(x).to_f32();
                for (x, w) in row.chunks(2).zip(weights.chunks(2)) {
                    for (x, w) in x.iter().zip(w).rev() {
                        chain = rounded(*x).mul_add(rounded(*w), chain);
                        exact += f64::from(*x) * f64::from(*w);
                        size += (f64::from(*x) * f64::from(*w)).abs();
                    }
                }
                (chain, exact, size)
            };
            let layers = self.layers.iter();
            layers
                .flat_map(|(weights, bias)| bias.iter().zip(weights.chunks(self.inputs)))
                .map(define)
                .collect()
        }
    }

    #[test]
    fn products_equal_the_definition_at_every_level() {
        let sizes: [(usize, &[usize], usize); 8] = [
            (1, &[1], 1),
            (24, &[24, 24, 24], 9),
            (40, &[7], 2),
            (191, &[16], 6),
            (193, &[33], 17),
            (384, &[48, 32], 100),
            (400, &[70], 205),
            (64, &[16, 17], 3),
        ];
        for (inputs, outputs, rows) in sizes {
            let case = Case::random(inputs, outputs, rows);
            for (finish, start) in [(Finish::Replace, 0.0), (Finish::Add, case.before)] {
                for level in Level::all() {
                    let results = case.project(level, finish, 2);
                    assert_eq!(results.len(), rows);
                    for (row, found) in case.rows.iter().zip(&results) {
                        for (found, (chain, exact, size)) in
                            found.iter().zip(case.defined(row, start))
                        {
                            assert_eq!(found.to_bits(), chain.to_bits(), "{level:?} {inputs}");
                            assert!((f64::from(*found) - exact).abs() < 8e-3 * size);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn activations_follow_the_products() {
        let case = Case::random(50, &[40], 13);
        let activation = Activation::Gelu;
        for level in Level::all() {
            let plain = case.project(level, Finish::Replace, 3);
            let activated = case.project(level, Finish::Activate(activation), 1);
            for (plain, activated) in plain.into_iter().zip(activated) {
                let mut expected = plain;
                expected.resize(filled(expected.len()), 0.0);
                activation.apply(level, &mut expected);
                assert_eq!(activated, expected[..activated.len()]);
            }
        }
    }
}
