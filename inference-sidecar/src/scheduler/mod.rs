//! Who runs when. Knows no tensors.
//!
//! - `queue`, `call`, `counters`: admission, bounds, the numbers of the server
//! - `worker`, `embedding_job`: one job after another, for embedding models
//! - `engine`, `room`, `batch`, `sequence`, `kv_blocks`, `fairness`: continuous batching, for language
//!   models
//! - `sampling`, `constraint`: the choice of the next token
//! - `drafts`: guesses of it that the model reads ahead
//! - `text_pool`: tokenising, off the async threads

mod batch;
mod call;
mod constraint;
mod counters;
mod drafts;
mod embedding_job;
mod engine;
mod fairness;
mod generation_job;
mod kv_blocks;
mod queue;
mod room;
mod sampling;
mod sequence;
mod text_pool;
mod worker;

pub use call::{Call, RequestId};
pub use constraint::{ConstraintCompiler, ConstraintState};
pub use counters::{Counters, Load};
pub use embedding_job::{EmbeddingJob, EmbeddingOutcome};
pub use engine::{Engine, EngineLimits, EngineParts};
pub use generation_job::{GenerationEvent, GenerationJob, GenerationPlan};
pub use queue::{Job, JobQueue};
pub use sampling::{Choice, Sampler};
pub use text_pool::TextPool;
pub use worker::Worker;
