//! The models that the server loads.

use std::path::PathBuf;

use serde::Deserialize;

use super::{DeviceConfig, Quantization, bounds};

/// A model of the BERT family: for embeddings, or a cross-encoder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BertModelConfig {
    /// Name in requests.
    #[serde(deserialize_with = "bounds::name")]
    pub name: String,
    /// A directory of sentence-transformers, or of transformers for a cross-encoder, with safetensors weights.
    pub path: PathBuf,
    /// 64 lower-case hex digits that the weight file must have.
    #[serde(default, deserialize_with = "bounds::sha256")]
    pub sha256: Option<String>,
    /// What its linear layers are rounded to.
    #[serde(default)]
    pub quantization: Quantization,
}

/// A model of the Llama family.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelConfig {
    /// Name in requests.
    #[serde(deserialize_with = "bounds::name")]
    pub name: String,
    /// A GGUF file, or a directory with safetensors weights.
    pub path: PathBuf,
    /// 64 lower-case hex digits that the weight file must have.
    #[serde(default, deserialize_with = "bounds::sha256")]
    pub sha256: Option<String>,
    /// Overrides the server's `context_tokens` for this model.
    #[serde(
        default,
        deserialize_with = "bounds::within_or_none::<_, 64, 1_048_576, _>"
    )]
    pub context_tokens: Option<u32>,
    /// Where it computes.
    #[serde(default)]
    pub device: DeviceConfig,
}
