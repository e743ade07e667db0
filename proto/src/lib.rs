//! The contract `salesai.inference.v1` between the database and the model server.
//!
//! - [`wire`]: code generated from `salesai/inference/v1/inference.proto`, the manual of the contract
//! - [`limits`]: the bounds which that file states, as constants
//! - [`model`]: checked requests, parsed once at the door
//! - [`client`]: typed client with deadlines, over a Unix socket

pub mod client;
pub mod limits;
pub mod model;

/// Messages and stubs as generated; only the two doors (client, server) use them.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("salesai.inference.v1");

    /// The compiled descriptor, for the reflection service.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/inference.fds"));
}
