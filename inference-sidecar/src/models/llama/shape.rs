//! The sizes of a model as its file states them, each within bounds that no real model breaks.

use kernels::{HEAD_SIZE_MAX, Heads};

use super::rotary::Rotary;
use crate::error::Error;
use crate::gguf::GgufFile;
use crate::models::Module;
use crate::safetensors_model::SafetensorsModel;

/// Sizes and constants of a Llama model.
#[derive(Clone)]
pub(super) struct Shape {
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: Heads,
    pub vocabulary: usize,
    /// Most tokens of a sequence.
    pub tokens_max: usize,
    pub norm_epsilon: f32,
    pub rotary: Rotary,
}

impl Shape {
    /// Outputs and inputs of a linear layer.
    pub(super) fn of_module(&self, module: Module) -> (usize, usize) {
        let (hidden, feed_forward) = (self.hidden, self.feed_forward);
        let (width, kv_width) = self.head_widths();
        match module {
            Module::Query => (width, hidden),
            Module::Key | Module::Value => (kv_width, hidden),
            Module::AttentionOutput => (hidden, width),
            Module::Gate | Module::Up => (feed_forward, hidden),
            Module::Down => (hidden, feed_forward),
        }
    }

    /// Values of all query heads, and of all heads of keys or values.
    pub(super) fn head_widths(&self) -> (usize, usize) {
        let Heads { count, kv, size } = self.heads;
        (count * size, kv * size)
    }

    /// From the header of a GGUF file.
    pub(super) fn from_gguf(file: &GgufFile, tokens_max: usize) -> Result<Self, Error> {
        let architecture = file.text("general.architecture")?;
        if architecture != "llama" {
            let reason =
                format!("architecture \"{architecture}\" is not supported, only \"llama\"");
            return Err(file.refuse(reason));
        }
        if file.has("llama.expert_count") && file.count("llama.expert_count")? > 0 {
            return Err(file.refuse("mixtures of experts are not supported"));
        }
        if file.has_tensor("blk.0.attn_q.bias") {
            return Err(file.refuse("attention with bias is not supported"));
        }
        let hidden = file.count_in("llama.embedding_length", 1..=65_536)?;
        let heads = file.count_in("llama.attention.head_count", 1..=1_024)?;
        let kv_heads = match file.has("llama.attention.head_count_kv") {
            true => file.count_in("llama.attention.head_count_kv", 1..=heads)?,
            false => heads,
        };
        if !hidden.is_multiple_of(heads) || !heads.is_multiple_of(kv_heads) {
            return Err(file.refuse("the numbers of heads do not divide the model's width"));
        }
        let head_size = read_head_size(file, hidden / heads)?;
        let norm_epsilon = file.number("llama.attention.layer_norm_rms_epsilon")?;
        if norm_epsilon <= 0.0 {
            return Err(file.refuse("a constant of the header is out of range"));
        }
        Ok(Self {
            layers: file.count_in("llama.block_count", 1..=1_024)?,
            hidden,
            feed_forward: file.count_in("llama.feed_forward_length", 1..=1 << 20)?,
            heads: Heads {
                count: heads,
                kv: kv_heads,
                size: head_size,
            },
            vocabulary: file.texts("tokenizer.ggml.tokens")?.len(),
            tokens_max: file
                .count_in("llama.context_length", 1..=1 << 24)?
                .min(tokens_max),
            norm_epsilon,
            rotary: Rotary::from_gguf(file, head_size)?,
        })
    }

    /// From the `config.json` of a Hugging Face directory, whose numbers are checked already.
    pub(super) fn from_config(model: &SafetensorsModel, tokens_max: usize) -> Result<Self, Error> {
        let config = model.config();
        if config.attention_bias || config.feed_forward_bias {
            return Err(model.refuse("layers with bias are not supported"));
        }
        Ok(Self {
            layers: config.layers,
            hidden: config.hidden,
            feed_forward: config.feed_forward,
            heads: Heads {
                count: config.heads,
                kv: config.kv_heads,
                size: config.head_size,
            },
            vocabulary: config.vocabulary,
            tokens_max: config.tokens_max.min(tokens_max),
            norm_epsilon: config.norm_epsilon,
            rotary: Rotary::from_config(config),
        })
    }
}

fn read_head_size(file: &GgufFile, default: usize) -> Result<usize, Error> {
    let head_size = match file.has("llama.attention.key_length") {
        true => file.count_in("llama.attention.key_length", 2..=HEAD_SIZE_MAX)?,
        false if default <= HEAD_SIZE_MAX => default,
        false => return Err(file.refuse("a head is larger than 1,024 values")),
    };
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if file.has(key) && file.count(key)? != head_size {
            return Err(file.refuse(format!("\"{key}\" differs from the size of a head")));
        }
    }
    if !head_size.is_multiple_of(2) {
        return Err(file.refuse("the size of a head is odd"));
    }
    Ok(head_size)
}
