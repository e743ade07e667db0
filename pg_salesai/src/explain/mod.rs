//! `explain (analyze, salesai)`: what each node of a plan asked of models.
//!
//! - [`option`]: the option, and the time while a statement with it runs
//! - [`nodes`]: counting by node
//! - [`output`]: what EXPLAIN prints

mod nodes;
mod option;
mod output;

/// Makes the option known.
pub fn register() {
    option::register();
    nodes::register();
    output::register();
}
