//! The functions between the two layers of a feed-forward network.

use super::lanes::{Kernel, LANES, Lanes, Level};

/// An activation function by its definition in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x)
    Gelu,
    /// x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
    GeluTanh,
    Relu,
}

impl Activation {
    /// Replaces values that are filled up to whole vectors.
    pub fn apply(self, level: Level, values: &mut [f32]) {
        level.run(Activate(self, values));
    }
}

struct Activate<'a>(Activation, &'a mut [f32]);

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        activate(lanes, self.0, self.1);
    }
}

/// Replaces whole vectors of values.
#[inline(always)]
pub(super) fn activate<L: Lanes>(lanes: L, activation: Activation, values: &mut [f32]) {
    let (vectors, _) = values.as_chunks_mut::<LANES>();
    for vector in vectors {
        let x = lanes.load(vector);
        let result = match activation {
            Activation::Gelu => gelu(lanes, x),
            Activation::GeluTanh => gelu_tanh(lanes, x),
            // What is not a number stays so: `max` keeps its second argument then.
            Activation::Relu => lanes.max(lanes.splat(0.0), x),
        };
        lanes.store(result, vector);
    }
}

#[inline(always)]
fn gelu<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let z = lanes.mul(x, lanes.splat(std::f32::consts::FRAC_1_SQRT_2));
    let half = lanes.mul(x, lanes.splat(0.5));
    lanes.fma(half, erf(lanes, z), half)
}

/// (1 + tanh u) / 2 is 1 / (1 + exp(-2 u)).
#[inline(always)]
fn gelu_tanh<L: Lanes>(lanes: L, x: L::F) -> L::F {
    const FACTOR: f32 = -1.595_769;
    let square = lanes.mul(x, x);
    let bracket = lanes.fma(square, lanes.splat(0.044_715), lanes.splat(1.0));
    let exponent = lanes.mul(lanes.mul(x, lanes.splat(FACTOR)), bracket);
    lanes.div(x, lanes.add(lanes.splat(1.0), lanes.exp(exponent)))
}

/// The error function within 4e-7.
///
/// A quotient of polynomials (the one of Eigen's `generic_fast_erf_float`), which in f32 is exactly 1 at
/// the bound; the function is so beyond it.
#[inline(always)]
fn erf<L: Lanes>(lanes: L, x: L::F) -> L::F {
    const ABOVE: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 5] = [
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_474e-2,
    ];
    // max(-b, -a) negated is min(b, a); what is not a number stays so.
    let (bound, minus) = (lanes.splat(-3.953_125), lanes.splat(-1.0));
    let x = lanes.max(bound, x);
    let x = lanes.mul(lanes.max(bound, lanes.mul(x, minus)), minus);
    let square = lanes.mul(x, x);
    let mut above = lanes.splat(ABOVE[0]);
    for coefficient in &ABOVE[1..] {
        above = lanes.fma(above, square, lanes.splat(*coefficient));
    }
    let mut below = lanes.splat(BELOW[0]);
    for coefficient in &BELOW[1..] {
        below = lanes.fma(below, square, lanes.splat(*coefficient));
    }
    lanes.div(lanes.mul(x, above), below)
}

#[cfg(test)]
mod tests {
    //! Goal: each function equals its definition to the precision of f32, at every level the same, and
    //! what is not a number stays so.

    use super::*;

    /// By its power series where that converges well.
    fn exact_erf(z: f64) -> f64 {
        if z.abs() > 5.0 {
            return z.signum();
        }
        let (mut term, mut sum) = (z, z);
        for n in 1..150 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Gelu => x / 2.0 * (1.0 + exact_erf(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                x / 2.0 * (1.0 + inner.tanh())
            }
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn functions_equal_their_definitions() {
        let mut values: Vec<f32> = (-6400..6400).map(|i| i as f32 / 500.0).collect();
        values.extend([-1e30, -100.0, -1e-20, -0.0, 0.0, 1e-40, 1e-6, 100.0, 1e30]);
        values.resize(values.len().next_multiple_of(LANES), 0.5);
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let mut portable = values.clone();
            activation.apply(Level::Portable, &mut portable);
            for (&x, &found) in values.iter().zip(&portable) {
                let expected = exact(activation, f64::from(x));
                let allowed = 2.5e-7 * f64::from(x.abs());
                let error = (f64::from(found) - expected).abs();
                assert!(error <= allowed, "{activation:?} {x}: {found} {expected}");
                if x.abs() > 10.0 && activation != Activation::GeluTanh {
                    assert_eq!(found, x.max(0.0), "{activation:?}");
                }
            }
            for level in Level::all() {
                let mut results = values.clone();
                activation.apply(level, &mut results);
                let bits = |values: &[f32]| -> Vec<u32> {
                    values.iter().map(|value| value.to_bits()).collect()
                };
                assert!(
                    bits(&results) == bits(&portable),
                    "{activation:?} {level:?}"
                );
                let mut bad = [f32::NAN; LANES];
                activation.apply(level, &mut bad);
                assert!(bad.iter().all(|value| value.is_nan()), "{activation:?}");
            }
        }
    }
}
