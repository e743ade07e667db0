//! Text that must obey a JSON schema, a regular expression or a list: which tokens may come next.

mod compiler;
#[cfg(test)]
mod constraint_tests;
mod grammar;
mod refusal;
mod schema;
mod state;
mod vocabulary;

pub use compiler::ConstraintCompiler;
pub use state::ConstraintState;
