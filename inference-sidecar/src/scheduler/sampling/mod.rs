//! The choice of the next token from the model's scores.

mod distribution;
mod log_probabilities;
mod repetition;
mod sampler;
#[cfg(test)]
mod sampler_tests;

pub use sampler::{Choice, Sampler};
