//! The adapters in memory: they arrive in parts, are found by name, and make room for each other.
//!
//! A sequence keeps the `Arc` of the adapter that it started with, so that a newer generation, an
//! unload or an eviction never changes its text. The number of these `Arc`s is the number of users.

mod memory;
mod registry;
mod transfer;

pub use registry::{AdapterCard, AdapterLimits, AdapterRegistry, Admission, LoadedAdapter};
pub use transfer::Transfer;
