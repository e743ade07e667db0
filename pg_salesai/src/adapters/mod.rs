//! LoRA adapters: what the database knows of them, their stored bytes, and the way of these to the sidecar.

pub mod file;
pub mod registry;
pub mod transfer;
