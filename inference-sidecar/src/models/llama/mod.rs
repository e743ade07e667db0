//! Llama-architecture models (Llama 2 to 3.2, SmolLM2) from GGUF files and Hugging Face directories.
//!
//! - `shape`: sizes and constants, checked
//! - `tensors`: where the weights come from, and what they are called there
//! - `rotary`: position encoding
//! - `host`: the model on the CPU
//! - `device`: the model by candle's operators

mod device;
mod host;
mod rotary;
mod shape;
mod tensors;

use candle_core::Device;
use kernels::KvFormat;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::models::{AdapterBase, BatchPlan, KV_BLOCK_TOKENS, LanguageModel};
use crate::safetensors_model::SafetensorsModel;
use device::DeviceModel;
use host::HostModel;
use shape::Shape;
use tensors::Tensors;

/// A loaded model.
pub struct Llama {
    shape: Shape,
    place: Place,
}

/// Where a model computes.
enum Place {
    Host(Box<HostModel>),
    Device(Box<DeviceModel>),
}

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LlamaOptions {
    /// Upper bound for the model's own context length.
    pub tokens_max: usize,
    pub compute: Compute,
}

/// What computes.
#[derive(Debug, Clone)]
pub enum Compute {
    /// The kernels for this processor.
    Host(Precision),
    /// candle's operators: on an accelerator, or on the CPU as the reference in tests.
    Candle(Device),
}

/// What the CPU may round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Activations to 8 bits where they meet quantised weights, as llama.cpp does; keys and
    /// values to f16.
    Fast,
    /// As `Fast`, with keys and values in 8 bits.
    Compact,
    /// Nothing but f32: slow, the reference in tests.
    Exact,
}

impl Precision {
    fn kv_format(self) -> KvFormat {
        match self {
            Self::Fast => KvFormat::F16,
            Self::Compact => KvFormat::Int8,
            Self::Exact => KvFormat::F32,
        }
    }
}

impl LlamaOptions {
    /// On the CPU, with the model's own context length.
    pub fn cpu() -> Self {
        Self {
            tokens_max: usize::MAX,
            compute: Compute::Host(Precision::Fast),
        }
    }

    /// As `cpu`, rounding nothing.
    pub fn exact() -> Self {
        Self {
            compute: Compute::Host(Precision::Exact),
            ..Self::cpu()
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
        let place = match &options.compute {
            Compute::Host(precision) => {
                Place::Host(Box::new(HostModel::read(tensors, &shape, *precision)?))
            }
            Compute::Candle(device) => Place::Device(Box::new(DeviceModel::read(
                tensors,
                &shape,
                device.clone(),
            )?)),
        };
        Ok(Self { shape, place })
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
        match &self.place {
            Place::Host(model) => model.block_bytes(&self.shape),
            Place::Device(_) => {
                let Shape { layers, heads, .. } = self.shape;
                2 * layers * heads.kv * heads.size * KV_BLOCK_TOKENS * size_of::<f32>()
            }
        }
    }

    fn reserve_kv(&mut self, blocks: usize) -> Result<(), Error> {
        match &mut self.place {
            Place::Host(model) => model.reserve_kv(blocks, &self.shape)?,
            Place::Device(model) => model.reserve_kv(blocks, &self.shape)?,
        }
        Ok(())
    }

    fn forward(&mut self, plan: &BatchPlan<'_>, scores: &mut Vec<f32>) -> Result<(), Error> {
        self.check(plan);
        match &mut self.place {
            Place::Host(model) => model.forward(&self.shape, plan, scores)?,
            Place::Device(model) => *scores = model.forward(&self.shape, plan)?,
        }
        Ok(())
    }
}
