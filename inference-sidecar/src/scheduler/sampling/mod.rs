//! The choice of the next token from the model's scores.

mod distribution;
mod log_probabilities;
#[cfg(test)]
mod property_tests;
mod repetition;
mod sampler;
#[cfg(test)]
mod sampler_tests;

pub use sampler::{Choice, Sampler};
