//! The sizes of a model as its header states them, each within bounds that no real model breaks.

use crate::error::Error;
use crate::gguf::GgufFile;

/// Sizes and constants of a Llama model.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Even.
    pub head_size: usize,
    pub vocabulary: usize,
    /// Most tokens of a sequence.
    pub tokens_max: usize,
    pub norm_epsilon: f32,
    pub rope_base: f32,
}

impl Shape {
    pub(super) fn read(file: &GgufFile, tokens_max: usize) -> Result<Self, Error> {
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
        let shape = Self {
            layers: file.count_in("llama.block_count", 1..=1_024)?,
            hidden,
            feed_forward: file.count_in("llama.feed_forward_length", 1..=1 << 20)?,
            heads,
            kv_heads,
            head_size: read_head_size(file, hidden / heads)?,
            vocabulary: file.texts("tokenizer.ggml.tokens")?.len(),
            tokens_max: file
                .count_in("llama.context_length", 1..=1 << 24)?
                .min(tokens_max),
            norm_epsilon: file.number("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: match file.has("llama.rope.freq_base") {
                true => file.number("llama.rope.freq_base")?,
                false => 10_000.0,
            },
        };
        if shape.norm_epsilon <= 0.0 || shape.rope_base <= 1.0 {
            return Err(file.refuse("a constant of the header is out of range"));
        }
        Ok(shape)
    }

    /// Query heads per head of keys and values.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

fn read_head_size(file: &GgufFile, default: usize) -> Result<usize, Error> {
    let head_size = match file.has("llama.attention.key_length") {
        true => file.count_in("llama.attention.key_length", 2..=1_024)?,
        false => default,
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
