//! The forward pass of one sequence, which owns its keys, values and position.

use candle_core::{Device, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};

use super::Llama;
use super::shape::Shape;
use super::weights::Layer;
use crate::error::Error;
use crate::models::Sequence;

/// Tokens by which the room for keys and values grows.
const CACHE_STEP_TOKENS: usize = 256;
/// Dimension of the tokens in keys and values (heads × tokens × head size).
const TOKENS: usize = 1;

pub(super) struct LlamaSequence<'a> {
    model: &'a Llama,
    caches: Vec<KvCache>,
    position: usize,
}

/// Where the tokens of one step stand.
struct Step<'a> {
    model: &'a Llama,
    /// Tokens read before this step.
    position: usize,
    tokens: usize,
    /// Minus infinity where a token would see a later one; None for a single token.
    mask: Option<Tensor>,
}

impl<'a> LlamaSequence<'a> {
    pub(super) fn new(model: &'a Llama) -> Self {
        let caches = vec![KvCache::new(TOKENS, CACHE_STEP_TOKENS); model.shape.layers];
        Self {
            model,
            caches,
            position: 0,
        }
    }

    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<Vec<f32>> {
        let weights = &self.model.weights;
        let step = Step::new(self.model, self.position, tokens.len())?;
        let mut x = weights
            .embedding
            .look_up(&Tensor::new(tokens, &Device::Cpu)?)?;
        for (layer, cache) in weights.layers.iter().zip(&mut self.caches) {
            x = (&x + step.attend(layer, cache, &x)?)?;
            x = (&x + step.feed_forward(layer, &x)?)?;
        }
        // Only the last token's scores are wanted, so the large output matrix sees one row.
        let last = x.narrow(0, tokens.len() - 1, 1)?.contiguous()?;
        let last = rms_norm(&last, &weights.output_norm, self.model.shape.norm_epsilon)?;
        weights.output.apply(&last)?.squeeze(0)?.to_vec1()
    }
}

impl Sequence for LlamaSequence<'_> {
    fn append(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error> {
        let shape = &self.model.shape;
        assert!(!tokens.is_empty() && self.position + tokens.len() <= shape.tokens_max);
        assert!(
            tokens
                .iter()
                .all(|&token| (token as usize) < shape.vocabulary)
        );
        let logits = self.forward(tokens)?;
        self.position += tokens.len();
        Ok(logits)
    }
}

impl<'a> Step<'a> {
    fn new(model: &'a Llama, position: usize, tokens: usize) -> candle_core::Result<Self> {
        let mask = match tokens {
            1 => None,
            _ => Some(causal_mask(position, tokens)?),
        };
        Ok(Self {
            model,
            position,
            tokens,
            mask,
        })
    }

    fn attend(
        &self,
        layer: &Layer,
        cache: &mut KvCache,
        x: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let shape = &self.model.shape;
        let x = rms_norm(x, &layer.attention_norm, shape.norm_epsilon)?;
        let query = self.heads(&layer.query.apply(&x)?, shape.heads)?;
        let key = self.heads(&layer.key.apply(&x)?, shape.kv_heads)?;
        let value = self.heads(&layer.value.apply(&x)?, shape.kv_heads)?;
        let query = self.model.rotary.turn(&query, self.position)?;
        let key = self.model.rotary.turn(&key, self.position)?;
        let (keys, values) = cache.append(&key, &value)?;
        let attended = self.attention(shape, &query, &keys, &values)?;
        layer.attention_output.apply(&attended)
    }

    /// All query heads that share a head of keys and values are rows of one product.
    fn attention(
        &self,
        shape: &Shape,
        query: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let rows = shape.group() * self.tokens;
        let query = query.reshape((shape.kv_heads, rows, shape.head_size))?;
        let scale = 1.0 / (shape.head_size as f64).sqrt();
        let mut scores = (query.matmul(&keys.transpose(1, 2)?)? * scale)?;
        if let Some(mask) = &self.mask {
            let seen = self.position + self.tokens;
            scores = scores
                .reshape((shape.heads, self.tokens, seen))?
                .broadcast_add(mask)?
                .reshape((shape.kv_heads, rows, seen))?;
        }
        softmax_last_dim(&scores)?
            .matmul(values)?
            .reshape((shape.heads, self.tokens, shape.head_size))?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((self.tokens, shape.heads * shape.head_size))
    }

    fn feed_forward(&self, layer: &Layer, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = rms_norm(x, &layer.feed_forward_norm, self.model.shape.norm_epsilon)?;
        let gate = silu(&layer.gate.apply(&x)?)?;
        layer.down.apply(&(gate * layer.up.apply(&x)?)?)
    }

    /// Tokens × (heads · head size) as heads × tokens × head size.
    fn heads(&self, x: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
        x.reshape((self.tokens, heads, self.model.shape.head_size))?
            .transpose(0, 1)?
            .contiguous()
    }
}

/// Tokens × everything seen after the step.
fn causal_mask(position: usize, tokens: usize) -> candle_core::Result<Tensor> {
    let seen = position + tokens;
    let mask = (0..tokens).flat_map(|token| {
        (0..seen).map(move |other| {
            if other <= position + token {
                0f32
            } else {
                f32::NEG_INFINITY
            }
        })
    });
    Tensor::from_iter(mask, &Device::Cpu)?.reshape((tokens, seen))
}
