//! Search: candidates come from indexes that are read with the rights of the worker; each is then asked for as the
//! caller, under row-level security and the caller's own condition, and nothing else leaves this module.
//!
//! - [`lexical`]: the best chunks by BM25, from tables of posting lists (`sql/schema/35_lexical_index.sql`; the
//!   algorithms are in `domain::lexical`)
//! - [`merging`]: upkeep of those tables
//! - [`dense`]: the nearest chunks by cosine, from codes (`sql/schema/36_embedding_codes.sql`) or from pgvector's HNSW
//! - `codes`, `code_table`: a scan of all codes; [`coding`]: their upkeep
//! - [`admission`]: what the caller may see and wants
//! - [`estimate`]: how many chunks fulfil a condition, as far as the planner knows
//! - [`row_estimate`]: what the planner is told
//! - `plans`: statements that are planned once
//! - [`reranking`]: the best of both once more, by a cross-encoder
//! - `stored_bytes`: values as PostgreSQL stores them

pub mod admission;
mod code_table;
mod codes;
pub mod coding;
pub mod dense;
pub mod estimate;
pub mod lexical;
pub mod merging;
mod plans;
pub mod reranking;
pub mod row_estimate;
mod stored_bytes;
