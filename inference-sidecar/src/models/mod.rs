//! The models: two traits that the rest of the server sees, and what implements them.

mod adapter;
mod bert;
mod embedding_model;
mod fingerprint;
mod language_model;
mod llama;
mod matrix;

pub use adapter::{Adapter, AdapterBase, LowRank, Module, PeftAdapter};
pub use bert::{BertEmbedder, BertPrecision, BertReranker, weights_path};
pub use embedding_model::EmbeddingModel;
pub(crate) use fingerprint::hex;
pub use fingerprint::{Fingerprint, fingerprint};
pub use kernels::{BlockId, Format, KV_BLOCK_TOKENS, KV_RUN_BLOCKS, Matrix};
pub use language_model::{BatchPlan, LanguageModel, LogitsOf, SequencePlan};
pub use llama::{Compute, Llama, LlamaOptions, Precision};
pub use matrix::UnreadMatrix;
