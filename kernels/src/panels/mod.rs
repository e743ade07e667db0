//! Rows of activations × weights in panels, both in bf16, with bias and what follows.
//!
//! A panel has the weights of sixteen outputs, two inputs after two inputs, so that one load brings two
//! weights of each. Inputs are taken in blocks, for which a few panels stay in the nearest cache while all
//! rows of a piece meet them.
//!
//! - `chains`: with vectors
//! - `tiles`: with the tile unit, where there is one
//!
//! They sum in different orders. In both, a result depends on no other row, nor on how the work is cut.
//!
//! Rows are filled up to whole vectors ([`filled`]), as are the outputs.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

mod chains;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;

use half::bf16;

use super::activation::{Activation, activate};
use super::lanes::{Kernel, LANES, Lanes, Level, Line, filled};
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
        self.weights
            .resize(start + self.pairs, Line([0; 2 * LANES]));
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

    /// What is taken together of a panel, from a pair on.
    fn part(&self, index: usize, pair: usize) -> &[Line] {
        let depth = DEPTH.min(self.pairs - pair);
        &self.weights[index * self.pairs + pair..][..depth]
    }

    /// What the products of some rows with `W` panels, from a pair on, are added to; `results` are what is there.
    #[inline(always)]
    fn starts<L: Lanes, const N: usize, const W: usize>(
        &self,
        lanes: L,
        (pair, panel): (usize, usize),
        finish: Finish,
        results: &[&mut [[f32; LANES]; W]; N],
    ) -> [[L::F; W]; N] {
        let mut starts = [[lanes.splat(0.0); W]; N];
        for w in 0..W {
            let bias = lanes.load(&self.bias[panel + w]);
            for n in 0..N {
                starts[n][w] = match (pair, finish) {
                    (0, Finish::Add) => lanes.add(bias, lanes.load(&results[n][w])),
                    (0, _) => bias,
                    _ => lanes.load(&results[n][w]),
                };
            }
        }
        starts
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
        let piece = Piece {
            panels,
            first_panel: part * piece,
            width: rows.width,
            rows: &values[..values.len().min(ROWS * rows.width)],
            band,
            finish,
        };
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = level.amx().filter(|_| tiles::fit(panels)) {
            return level.run(tiles::Tiles { piece, amx });
        }
        level.run(chains::Chains(piece));
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

impl Piece<'_> {
    /// Panels of the piece.
    fn count(&self) -> usize {
        self.band.columns() / LANES
    }

    fn row_count(&self) -> usize {
        self.rows.len() / self.width
    }

    /// What follows when all products are there.
    #[inline(always)]
    fn activate<L: Lanes>(&mut self, lanes: L) {
        if let Finish::Activate(activation) = self.finish {
            for row in 0..self.row_count() {
                activate(lanes, activation, self.band.row(row));
            }
        }
    }
}
