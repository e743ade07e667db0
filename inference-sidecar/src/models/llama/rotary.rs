//! Rotary position encoding (Su et al. 2021, arXiv 2104.09864) with the frequency scaling of Llama 3.1.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_nn::rotary_emb::{rope, rope_i};
use kernels::Turns;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::safetensors_model::{LlamaConfig, RopeScaling};

/// How heads turn with the position of their token.
#[derive(Clone)]
pub(super) struct Rotary {
    /// Angle per position for each pair of values.
    frequencies: Arc<[f64]>,
    pairs: Pairs,
}

/// Which values of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairs {
    /// Neighbours: the order of GGUF files.
    Neighbours,
    /// A value of the first half with one of the second: the order of Hugging Face.
    Halves,
}

/// Cosines and sines for the tokens of a step.
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
    pairs: Pairs,
}

impl Rotary {
    /// Llama 3.1 files carry divisors of the frequencies in `rope_freqs.weight`.
    pub(super) fn from_gguf(file: &GgufFile, head_size: usize) -> Result<Self, Error> {
        let scaling = match file.has("llama.rope.scaling.type") {
            true => file.text("llama.rope.scaling.type")?,
            false => "none",
        };
        let factor = match scaling {
            "none" => 1.0,
            "linear" => file.number("llama.rope.scaling.factor")?,
            other => {
                return Err(file.refuse(format!("rope scaling \"{other}\" is not supported")));
            }
        };
        let base = match file.has("llama.rope.freq_base") {
            true => file.number("llama.rope.freq_base")?,
            false => 10_000.0,
        };
        if base <= 1.0 || factor <= 0.0 {
            return Err(file.refuse("a constant of the position encoding is out of range"));
        }
        let mut frequencies = frequencies(base.into(), head_size);
        if file.has_tensor("rope_freqs.weight") {
            let divisors = file.vector("rope_freqs.weight", frequencies.len())?;
            if !divisors.iter().all(|divisor| *divisor > 0.0) {
                return Err(file.refuse("\"rope_freqs.weight\" holds a value that is not positive"));
            }
            for (frequency, divisor) in frequencies.iter_mut().zip(divisors) {
                *frequency /= f64::from(divisor);
            }
        }
        frequencies
            .iter_mut()
            .for_each(|frequency| *frequency /= f64::from(factor));
        Ok(Self {
            frequencies: frequencies.into(),
            pairs: Pairs::Neighbours,
        })
    }

    pub(super) fn from_config(config: &LlamaConfig) -> Self {
        let mut frequencies = frequencies(config.rope_base.into(), config.head_size);
        match config.rope_scaling {
            RopeScaling::Unscaled => {}
            RopeScaling::Linear { factor } => {
                let factor = f64::from(factor);
                frequencies
                    .iter_mut()
                    .for_each(|frequency| *frequency /= factor);
            }
            RopeScaling::Llama3 {
                factor,
                low_frequency_factor,
                high_frequency_factor,
                original_tokens_max,
            } => {
                let low = f64::from(low_frequency_factor);
                let high = f64::from(high_frequency_factor);
                for frequency in &mut frequencies {
                    // Waves that fit often into the original context stay, rare ones are slowed
                    // down, and those between are mixed.
                    let waves = original_tokens_max as f64 * *frequency / std::f64::consts::TAU;
                    let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= (1.0 - kept) / f64::from(factor) + kept;
                }
            }
        }
        Self {
            frequencies: frequencies.into(),
            pairs: Pairs::Halves,
        }
    }

    /// True when the rows of query and key weights are in GGUF's order.
    pub(super) fn is_interleaved(&self) -> bool {
        self.pairs == Pairs::Neighbours
    }

    /// The angles of tokens at `positions`.
    pub(super) fn angles(
        &self,
        positions: &[usize],
        device: &Device,
    ) -> candle_core::Result<Angles> {
        let table = |turn: fn(f64) -> f64| {
            let values = positions.iter().flat_map(|&position| {
                let angle = move |frequency: &f64| turn(position as f64 * frequency) as f32;
                self.frequencies.iter().map(angle)
            });
            let values: Vec<f32> = values.collect();
            Tensor::from_vec(values, (positions.len(), 1, self.frequencies.len()), device)
        };
        Ok(Angles {
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            pairs: self.pairs,
        })
    }
}

impl Rotary {
    /// The angles of each position, for the kernels, in place of what `turns` holds.
    pub(super) fn turn_to(&self, turns: &mut Turns, positions: impl Iterator<Item = usize>) {
        turns.pairs = self.frequencies.len();
        turns.is_interleaved = self.is_interleaved();
        turns.cos.clear();
        turns.sin.clear();
        for position in positions {
            for frequency in &*self.frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                turns.cos.push(cos as f32);
                turns.sin.push(sin as f32);
            }
        }
    }
}

impl Angles {
    /// Turns tokens × (heads · head size).
    pub(super) fn turn(&self, x: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        // Each token is a batch of its own, because each has a position of its own.
        let x = x.reshape((tokens, heads, 1, width / heads))?;
        let turned = match self.pairs {
            Pairs::Neighbours => rope_i(&x, &self.cos, &self.sin)?,
            Pairs::Halves => rope(&x, &self.cos, &self.sin)?,
        };
        turned.reshape((tokens, width))
    }
}

fn frequencies(base: f64, head_size: usize) -> Vec<f64> {
    (0..head_size / 2)
        .map(|pair| base.powf(-((2 * pair) as f64) / head_size as f64))
        .collect()
}
