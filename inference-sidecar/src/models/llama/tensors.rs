//! Where the weights come from, and what they are called there.

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::models::{Module, UnreadMatrix};
use crate::safetensors_model::SafetensorsModel;

/// A file with the tensors of a Llama model.
pub(super) enum Tensors<'a> {
    Gguf(&'a GgufFile),
    Safetensors(&'a SafetensorsModel),
}

/// A tensor of the model.
#[derive(Debug, Clone, Copy)]
pub(super) enum TensorName {
    Embedding,
    Output,
    OutputNorm,
    AttentionNorm(usize),
    FeedForwardNorm(usize),
    Linear(usize, Module),
}

impl Tensors<'_> {
    pub(super) fn has(&self, name: TensorName) -> bool {
        match self {
            Self::Gguf(file) => file.has_tensor(&gguf_name(name)),
            Self::Safetensors(model) => model.has_tensor(&hugging_face_name(name)),
        }
    }

    /// Rows × columns.
    pub(super) fn unread_matrix(
        &self,
        name: TensorName,
        rows: usize,
        columns: usize,
    ) -> Result<UnreadMatrix<'_>, Error> {
        match self {
            Self::Gguf(file) => file.unread_matrix(&gguf_name(name), rows, columns),
            Self::Safetensors(model) => {
                model.unread_matrix(&hugging_face_name(name), rows, columns)
            }
        }
    }

    pub(super) fn vector(&self, name: TensorName, length: usize) -> Result<Vec<f32>, Error> {
        match self {
            Self::Gguf(file) => file.vector(&gguf_name(name), length),
            Self::Safetensors(model) => model.vector(&hugging_face_name(name), length),
        }
    }
}

fn gguf_name(name: TensorName) -> String {
    match name {
        TensorName::Embedding => "token_embd.weight".into(),
        TensorName::Output => "output.weight".into(),
        TensorName::OutputNorm => "output_norm.weight".into(),
        TensorName::AttentionNorm(layer) => format!("blk.{layer}.attn_norm.weight"),
        TensorName::FeedForwardNorm(layer) => format!("blk.{layer}.ffn_norm.weight"),
        TensorName::Linear(layer, module) => {
            let part = match module {
                Module::Query => "attn_q",
                Module::Key => "attn_k",
                Module::Value => "attn_v",
                Module::AttentionOutput => "attn_output",
                Module::Gate => "ffn_gate",
                Module::Up => "ffn_up",
                Module::Down => "ffn_down",
            };
            format!("blk.{layer}.{part}.weight")
        }
    }
}

fn hugging_face_name(name: TensorName) -> String {
    match name {
        TensorName::Embedding => "model.embed_tokens.weight".into(),
        TensorName::Output => "lm_head.weight".into(),
        TensorName::OutputNorm => "model.norm.weight".into(),
        TensorName::AttentionNorm(layer) => format!("model.layers.{layer}.input_layernorm.weight"),
        TensorName::FeedForwardNorm(layer) => {
            format!("model.layers.{layer}.post_attention_layernorm.weight")
        }
        TensorName::Linear(layer, module) => {
            format!("model.layers.{layer}.{}.weight", module.path())
        }
    }
}
