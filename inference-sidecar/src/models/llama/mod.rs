//! Llama-architecture models (Llama 2 to 3.2, SmolLM2) from GGUF files and Hugging Face directories.
//!
//! - `shape`: sizes and constants, checked
//! - `tensors`: where the weights come from, and what they are called there
//! - `weights`: the tensors as the forward pass uses them
//! - `linear`: a weight matrix on the host or on a device
//! - `rotary`: position encoding
//! - `kv`: the pool of keys and values, and attention over it
//! - `forward`: one step over a batch plan

mod forward;
mod kv;
mod linear;
mod rotary;
mod shape;
mod tensors;
mod weights;

use candle_core::Device;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::models::{AdapterBase, BatchPlan, KV_BLOCK_TOKENS, LanguageModel};
use crate::safetensors_model::SafetensorsModel;
use kv::KvPool;
use shape::Shape;
use tensors::Tensors;
use weights::Weights;

/// A loaded model.
pub struct Llama {
    shape: Shape,
    weights: Weights,
    pool: KvPool,
    device: Device,
}

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LlamaOptions {
    /// Upper bound for the model's own context length.
    pub tokens_max: usize,
    /// Where it computes. On [`Device::Cpu`] the weights stay as they are in the file.
    pub device: Device,
    /// Computes on the CPU by candle's own operators, as on an accelerator: the reference in tests.
    pub use_candle: bool,
}

impl LlamaOptions {
    /// On the CPU, with the model's own context length.
    pub fn cpu() -> Self {
        Self {
            tokens_max: usize::MAX,
            device: Device::Cpu,
            use_candle: false,
        }
    }
}

impl Llama {
    /// Reads the weights of a GGUF file.
    pub fn from_gguf(file: &GgufFile, options: &LlamaOptions) -> Result<Self, Error> {
        let shape = Shape::from_gguf(file, options.tokens_max)?;
        Self::load(&Tensors::Gguf(file), shape, options)
    }

    /// Reads the weights of a Hugging Face directory.
    pub fn from_safetensors(
        model: &SafetensorsModel,
        options: &LlamaOptions,
    ) -> Result<Self, Error> {
        let shape = Shape::from_config(model, options.tokens_max)?;
        Self::load(&Tensors::Safetensors(model), shape, options)
    }

    /// What an adapter of this model must fit.
    pub fn adapter_base(&self) -> AdapterBase {
        let shape = &self.shape;
        AdapterBase {
            layers: shape.layers,
            hidden: shape.hidden,
            feed_forward: shape.feed_forward,
            heads: shape.heads.count,
            kv_heads: shape.heads.kv,
            head_size: shape.heads.size,
            permuted_heads: shape.rotary.is_interleaved(),
        }
    }

    fn load(tensors: &Tensors<'_>, shape: Shape, options: &LlamaOptions) -> Result<Self, Error> {
        let is_host = options.device.is_cpu() && !options.use_candle;
        let weights = Weights::read(tensors, &shape, (!is_host).then_some(&options.device))?;
        let pool = KvPool::empty(is_host);
        let device = options.device.clone();
        Ok(Self {
            shape,
            weights,
            pool,
            device,
        })
    }

    fn check(&self, plan: &BatchPlan<'_>) {
        for sequence in &plan.sequences {
            let end = sequence.position + sequence.tokens.len();
            assert!(!sequence.tokens.is_empty() && end <= self.shape.tokens_max);
            assert!(end <= sequence.blocks.len() * KV_BLOCK_TOKENS);
            let is_known = |&token: &u32| (token as usize) < self.shape.vocabulary;
            assert!(sequence.tokens.iter().all(is_known));
        }
    }
}

impl LanguageModel for Llama {
    fn tokens_max(&self) -> usize {
        self.shape.tokens_max
    }

    fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    fn kv_block_bytes(&self) -> usize {
        let heads = &self.shape.heads;
        2 * self.shape.layers * heads.kv * heads.size * KV_BLOCK_TOKENS * size_of::<f32>()
    }

    fn reserve_kv(&mut self, blocks: usize) -> Result<(), Error> {
        let Shape { layers, heads, .. } = self.shape;
        self.pool.reserve(layers, blocks, heads, &self.device)
    }

    fn forward(&mut self, plan: &BatchPlan<'_>) -> Result<Vec<Vec<f32>>, Error> {
        self.check(plan);
        forward::run(self, plan)
    }
}
