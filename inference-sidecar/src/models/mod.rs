//! The models: two traits that the rest of the server sees, and what implements them.

mod adapter;
mod bert;
mod cpu;
mod embedding_model;
mod fingerprint;
mod format;
mod language_model;
mod llama;
mod matrix;

pub use adapter::{Adapter, AdapterBase, LowRank, Module, PeftAdapter};
pub use bert::BertEmbedder;
pub use embedding_model::EmbeddingModel;
pub use fingerprint::{Fingerprint, fingerprint};
pub use format::Format;
pub use language_model::{
    BatchPlan, BlockId, KV_BLOCK_TOKENS, LanguageModel, LogitsOf, SequencePlan,
};
pub use llama::{Compute, Llama, LlamaOptions, Precision};
pub use matrix::{Matrix, UnreadMatrix};
