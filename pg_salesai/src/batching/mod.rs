//! One call to the model for many rows of a query: a function such as `salesai.is_true(statement, document)` in a
//! condition or a select list is called through its form for many documents.
//!
//! - [`planning`]: which nodes of a plan get a batching node above them
//! - [`rewriting`]: what moves from a node to the one above it
//! - [`aggregates`]: calls in the arguments of aggregates
//! - [`calls`]: which calls may be made for many rows at once
//! - [`node`]: the custom scan, as the executor sees it
//! - [`batch`]: its rows, and what was said of them
//! - [`call`]: a call that is made for them
//! - [`pace`]: how many rows are taken together
//!
//! Where the library is not loaded before a query is planned, nothing happens, and the query asks row by row.

mod aggregates;
mod batch;
mod call;
mod calls;
mod node;
mod pace;
mod planning;
mod rewriting;

/// Lets queries that are planned from now on batch.
pub fn register() {
    node::register();
    planning::register();
}
