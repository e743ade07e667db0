//! Who runs when: admission, priority queues, worker threads, the two kinds of job. Knows no tensors.

mod call;
mod constraint;
mod counters;
mod embedding_job;
mod generation_job;
mod queue;
mod sampling;
mod text_pool;
mod worker;

pub use call::{Call, RequestId};
pub use constraint::{ConstraintCompiler, ConstraintState};
pub use counters::{Counters, Load};
pub use embedding_job::{EmbeddingJob, EmbeddingOutcome};
pub use generation_job::{GenerationEvent, GenerationJob, GenerationPlan};
pub use queue::{Job, JobQueue};
pub use sampling::{Choice, Sampler};
pub use text_pool::TextPool;
pub use worker::Worker;
