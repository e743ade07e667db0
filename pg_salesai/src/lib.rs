//! `pg_salesai`: the door from SQL to the sales rules and the inference sidecar.
//!
//! - [`batching`]: one call of an operator for many rows of a query
//! - [`config`]: every setting
//! - [`errand`]: model calls between transactions
//! - [`error`]: what went wrong, as SQLSTATE, detail and hint
//! - `explain`: the option `salesai` of EXPLAIN, from PostgreSQL 18
//! - [`functions`]: one thin function per C function that `sql/schema` declares
//! - [`generation`]: texts from the model, on behalf of the caller
//! - [`answering`]: answers from evidence, whole or as a stream
//! - [`operators`]: classify, is_true, extract, summarize, agg over documents
//! - [`prompt_templates`]: what a model is told to do, as the database has it
//! - [`search`]: the legs of search, and the lexical index
//! - [`adapters`]: LoRA adapters and their way to the sidecar
//! - [`client_output`]: rows on their way to the client
//! - [`progress`]: how far calls about many texts are, for other sessions to see
//! - [`result_cache`]: what models made, to be used again
//! - [`rights`]: work that the caller has no rights for
//! - [`schema`]: what a database of an older version lacks
//! - [`segments`]: what was said, as SQL stores it
//! - [`sidecar`]: the only place that opens a socket or runs async code
//! - [`subtransaction`]: a step that can be taken back alone
//! - [`usage`]: what was asked of models, in numbers
//! - [`vault`]: encryption of originals
//! - [`pipeline`]: from a leased job to chunks and embeddings
//! - [`worker`]: the background workers that drain the queue
//! - [`wait_events`]: what `pg_stat_activity` shows of our waits
//!
//! The schema itself is in `sql/schema`, readable without Rust.

use pgrx::prelude::*;

mod adapters;
mod answering;
mod batching;
mod client_output;
mod config;
mod errand;
mod error;
#[cfg(feature = "pg18")]
mod explain;
mod functions;
mod generation;
mod operators;
mod pipeline;
mod progress;
mod prompt_templates;
mod result_cache;
mod rights;
mod schema;
mod search;
mod segments;
mod sidecar;
mod subtransaction;
mod usage;
mod vault;
mod wait_events;
mod worker;

pg_module_magic!(name, version);

/// Runs when the library is loaded: by the postmaster when preloaded, else by the first call.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    config::register();
    worker::register();
    batching::register();
    #[cfg(feature = "pg18")]
    explain::register();
}
