//! Rotary position encoding in GGUF's layout: neighbouring values of a head turn together.

use candle_core::{Device, Tensor};

use super::shape::Shape;
use crate::error::Error;
use crate::gguf::GgufFile;

/// Cosines and sines of all positions.
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// Llama 3.1 and later slow some frequencies down for long contexts: `rope_freqs.weight` divides.
    pub(super) fn read(file: &mut GgufFile, shape: &Shape) -> Result<Self, Error> {
        if file.has("llama.rope.scaling.type") && file.text("llama.rope.scaling.type")? != "none" {
            return Err(file.refuse("this kind of rope scaling is not supported"));
        }
        let pairs = shape.head_size / 2;
        let divisors = match file.has_tensor("rope_freqs.weight") {
            true => file
                .tensor("rope_freqs.weight", &[pairs])?
                .dequantize(&Device::Cpu)?
                .to_vec1()?,
            false => vec![1f32; pairs],
        };
        if divisors
            .iter()
            .any(|divisor| !divisor.is_finite() || *divisor <= 0.0)
        {
            return Err(file.refuse("\"rope_freqs.weight\" is out of range"));
        }
        let frequency = |(pair, divisor): (usize, &f32)| {
            let exponent = -2.0 * pair as f64 / shape.head_size as f64;
            f64::from(shape.rope_base).powf(exponent) / f64::from(*divisor)
        };
        let frequencies: Vec<f64> = divisors.iter().enumerate().map(frequency).collect();
        let angles = |turn: fn(f64) -> f64| {
            let values = (0..shape.tokens_max).flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |frequency| turn(position as f64 * frequency) as f32)
            });
            Tensor::from_iter(values, &Device::Cpu)?.reshape((shape.tokens_max, pairs))
        };
        Ok(Self {
            cos: angles(f64::cos)?,
            sin: angles(f64::sin)?,
        })
    }

    /// Turns `heads` (heads × tokens × head size), the first token being at `position`.
    pub(super) fn turn(&self, heads: &Tensor, position: usize) -> candle_core::Result<Tensor> {
        let tokens = heads.dim(1)?;
        let cos = self.cos.narrow(0, position, tokens)?;
        let sin = self.sin.narrow(0, position, tokens)?;
        candle_nn::rotary_emb::rope_i(&heads.unsqueeze(0)?, &cos, &sin)?.squeeze(0)
    }
}
