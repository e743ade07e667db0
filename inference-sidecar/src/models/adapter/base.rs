//! The sizes of a model that an adapter must fit, and the order of its rows.

use crate::models::Module;

/// What an adapter must know of the model that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterBase {
    /// Transformer layers.
    pub layers: usize,
    /// Width of the model.
    pub hidden: usize,
    /// Width of the gated layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_size: usize,
    /// True for GGUF files of the Llama architecture: their query and key rows stand in the order of
    /// interleaved rotation, those of PEFT in Hugging Face's order of halves.
    pub permuted_heads: bool,
}

impl AdapterBase {
    /// Outputs and inputs of `module`.
    pub fn shape(&self, module: Module) -> (usize, usize) {
        let queries = self.heads * self.head_size;
        let keys = self.kv_heads * self.head_size;
        match module {
            Module::Query => (queries, self.hidden),
            Module::Key | Module::Value => (keys, self.hidden),
            Module::AttentionOutput => (self.hidden, queries),
            Module::Gate | Module::Up => (self.feed_forward, self.hidden),
            Module::Down => (self.hidden, self.feed_forward),
        }
    }

    /// The row of PEFT's `lora_B` that is row `row` of the base's weights.
    ///
    /// Within a head the base has x0 y0 x1 y1 ..., PEFT x0 x1 ... y0 y1 ... Source: `permute` of
    /// llama.cpp's `convert_hf_to_gguf.py`.
    pub(super) fn source_row(&self, module: Module, row: usize) -> usize {
        let is_permuted = self.permuted_heads && matches!(module, Module::Query | Module::Key);
        if !is_permuted {
            return row;
        }
        let (head, place) = (row / self.head_size, row % self.head_size);
        let (pair, half) = (place / 2, place % 2);
        head * self.head_size + half * (self.head_size / 2) + pair
    }
}
