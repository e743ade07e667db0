//! The C functions that `sql/schema` declares: read arguments, call one plain function, map the result.

mod insight;
mod models;
mod operations;
mod parsing;
mod vault;
