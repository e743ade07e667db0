//! The models: two traits that the rest of the server sees, and their candle implementations.

mod bert;
mod embedding_model;
mod fingerprint;
mod language_model;
mod llama;

pub use bert::BertEmbedder;
pub use embedding_model::EmbeddingModel;
pub use fingerprint::{Fingerprint, fingerprint};
pub use language_model::{LanguageModel, Sequence};
pub use llama::{Llama, LlamaOptions};
