//! What the server tells Prometheus. Names follow vLLM's where it has them, with the prefix `salesai_`.
//!
//! - [`Metrics`]: created once, cloned cheaply; hands out the handles that the parts record with:
//!   [`LanguageMetrics`], [`EmbeddingMetrics`], [`AdapterMetrics`], [`UpstreamMetrics`]
//! - [`endpoint`]: `/metrics`, `/health` and `/ready` over HTTP
//!
//! Label values are names of models and upstreams from the configuration, and words of this code.
//! Callers, adapters (their names come and go), request ids and texts are never labels. Should anybody
//! ask for more than [`NAMES_MAX`] names, the rest share the name "other".

mod adapters;
mod embedding;
pub mod endpoint;
mod families;
mod labels;
mod language;
mod process;
mod registry;
mod requests;
mod upstreams;

pub use adapters::AdapterMetrics;
pub use embedding::EmbeddingMetrics;
pub use labels::{BreakerState, Ending, Rejection};
pub use language::{KvBlocks, LanguageMetrics};
pub use process::resident_bytes;
pub use registry::{Metrics, NAMES_MAX};
pub use requests::RequestMetrics;
pub use upstreams::UpstreamMetrics;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
