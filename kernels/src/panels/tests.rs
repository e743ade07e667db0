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

    /// Output by output: the sum in f32, the exact result, and the size of its terms.
    fn defined(&self, level: Level, row: &[f32], start: f32) -> Vec<(f32, f64, f64)> {
        let define = |(bias, weights): (&f32, &[f32])| {
            let terms = || row.iter().zip(weights);
            let exact = |x: &f32, w: &f32| f64::from(*x) * f64::from(*w);
            let start = bias + start;
            (
                sum(level, row, weights, start),
                f64::from(start) + terms().map(|(x, w)| exact(x, w)).sum::<f64>(),
                f64::from(start.abs()) + terms().map(|(x, w)| exact(x, w).abs()).sum::<f64>(),
            )
        };
        let layers = self.layers.iter();
        layers
            .flat_map(|(weights, bias)| bias.iter().zip(weights.chunks(self.inputs)))
            .map(define)
            .collect()
    }
}

/// In the order of the level.
fn sum(level: Level, row: &[f32], weights: &[f32], start: f32) -> f32 {
    let fma = |sum: f32, (x, w): (&f32, &f32)| {
        let rounded = |x: f32| bf16::from_f32(x).to_f32();
        rounded(*x).mul_add(rounded(*w), sum)
    };
    if !has_tiles(level) || !row.len().div_ceil(2).is_multiple_of(16) {
        let pairs = row.chunks(2).zip(weights.chunks(2));
        return pairs.fold(start, |sum, (x, w)| x.iter().zip(w).rev().fold(sum, fma));
    }
    let blocks = row.chunks(2 * DEPTH).zip(weights.chunks(2 * DEPTH));
    blocks.fold(start, |start, (x, w)| {
        let tiles = x.chunks(32).zip(w.chunks(32));
        let products = tiles.fold(0.0, |sum, (x, w)| {
            let [first, second] = [0, 1].map(|side| {
                let terms = x[side..].iter().zip(&w[side..]).step_by(2);
                terms.fold(0.0, fma)
            });
            sum + (first + second)
        });
        start + products
    })
}

#[cfg(target_arch = "x86_64")]
fn has_tiles(level: Level) -> bool {
    level.amx().is_some()
}

#[cfg(not(target_arch = "x86_64"))]
fn has_tiles(_: Level) -> bool {
    false
}

#[test]
fn products_equal_the_definition_at_every_level() {
    let sizes: [(usize, &[usize], usize); 12] = [
        (1, &[1], 1),
        (24, &[24, 24, 24], 9),
        (40, &[7], 2),
        (191, &[16], 6),
        (193, &[33], 17),
        (384, &[48, 32], 100),
        (400, &[70], 205),
        (64, &[16, 17], 3),
        // Tiles that are full, or lack rows in either half, and a panel without a neighbour.
        (32, &[48], 1),
        (96, &[40], 16),
        (416, &[16, 32], 17),
        (1536, &[33], 127),
    ];
    for (inputs, outputs, rows) in sizes {
        let case = Case::random(inputs, outputs, rows);
        for (finish, start) in [(Finish::Replace, 0.0), (Finish::Add, case.before)] {
            for level in Level::all() {
                let results = case.project(level, finish, 2);
                assert_eq!(results.len(), rows);
                for (row, found) in case.rows.iter().zip(&results) {
                    for (found, (sum, exact, size)) in
                        found.iter().zip(case.defined(level, row, start))
                    {
                        assert_eq!(found.to_bits(), sum.to_bits(), "{level:?} {inputs}");
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
