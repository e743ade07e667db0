//! The model server beside PostgreSQL: gRPC over a Unix socket, models on the CPU.
//!
//! - [`config`]: file and command line, read once; [`telemetry`]: JSON log on stderr;
//!   [`metrics`]: numbers for Prometheus
//! - [`server`]: socket, start-up and drain; [`startup`]: loads and warms the models
//! - [`socket`], [`remote`]: the doors: a Unix socket, and TCP with mutual TLS
//! - [`service`]: gRPC in, domain out
//! - [`adapters`]: the LoRA adapters in memory, sent by clients and found by name
//! - [`catalog`]: what is served: each model's card, tokenizer and queue
//! - [`scheduler`]: admission, queues, workers, sampling; knows no tensors
//! - [`router`]: models that other servers run
//! - [`documents`]: files as Markdown, each in a process of its own
//! - [`text`]: tokenizers, chat templates, chunks; knows no tensors
//! - [`bench`]: drives a running server and measures it
//! - [`models`]: the model traits, what implements them, weights
//! - [`gguf`], [`safetensors_model`]: weight files, read by checked code; [`file_bytes`]
//!
//! The life of a request: `service` → `text` → `scheduler` queue → worker thread → `models`.

#![forbid(unsafe_code)]

pub mod adapters;
pub mod bench;
pub mod catalog;
pub mod config;
pub mod documents;
pub mod error;
pub mod file_bytes;
pub mod gguf;
pub mod json_file;
pub mod metrics;
pub mod models;
pub mod readiness;
pub mod remote;
pub mod router;
pub mod safetensors_model;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod shutdown;
pub mod socket;
pub mod startup;
pub mod telemetry;
pub mod text;
pub mod threads;
