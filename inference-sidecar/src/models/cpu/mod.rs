//! What the CPU computes outside of candle: products with packed weights, attention over blocks, and
//! what lies between them.
//!
//! - `lanes`: sixteen values at a time, at every level of the processor
//! - `pool`, `parts`: threads, and memory that they write at once
//! - `pages`, `packed`, `quantized`, `product`: weights and activations in few bits
//! - `float_product`, `dot`: weights of the other formats
//! - `panels`, `activation`: weights in f32 that many rows meet at once
//! - `attention`, `stored`: keys and values
//! - `sequences`: attention of whole sequences
//! - `rows`: what lies between
//!
//! Each value of a result is summed in an order that depends on the sizes of the model alone, so a row
//! comes out the same bit for bit whatever other rows are computed beside it. This folder alone holds
//! `unsafe` code of the sidecar.

mod activation;
mod attention;
mod dot;
mod float_product;
mod lanes;
mod packed;
mod pages;
mod panels;
mod parts;
mod pool;
mod product;
mod quantized;
mod rows;
mod sequences;
mod stored;

pub(super) use activation::Activation;
pub(super) use attention::{Attention, Heads, HostKv, Span};
pub(super) use float_product::float_product;
pub(super) use lanes::{Level, filled};
pub(super) use packed::PackedMatrix;
pub(super) use panels::{Finish, Panels, project};
pub(super) use pool::Pool;
pub(super) use product::{Product, Write, multiply};
pub(super) use quantized::QuantizedRows;
pub(super) use rows::{LayerNorm, Turns, gate, rms_norm, turn};
pub(super) use sequences::{EqualHeads, attend_sequences};
