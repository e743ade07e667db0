//! The C functions that `sql/schema` declares: read arguments, call one plain function, map the result.

// pgrx decides the types here: its error report is large, its table rows are tuples of named columns.
#![allow(clippy::result_large_err, clippy::type_complexity)]

mod adapters;
mod generate;
mod insight;
mod models;
mod operations;
mod operators;
mod parsing;
mod prompt_templates;
mod redaction;
mod search;
mod vault;
