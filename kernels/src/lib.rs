//! What the CPU computes: products with weights, attention over blocks, and what lies between them; and codes of vectors,
//! for search.
//!
//! - `lanes`: sixteen values at a time, at every level of the processor
//! - `pool`, `parts`: threads, and memory that they write at once
//! - `prefetch`: memory before it is needed
//! - `format`, `matrix`: weights as files have them
//! - `pages`: memory in large pages
//! - `packed`, `quantized`: weights and activations in few bits
//! - `dense`: weights of the other formats
//! - `product`: activations × weights
//! - `panels`, `activation`: weights in bf16 that many rows meet at once
//! - `attention`, `stored`: keys and values, and what meets them
//! - `sequences`: attention of whole sequences
//! - `rows`: what lies between
//! - `codes`: vectors in two bits a dimension, for search
//! - `limits`: what the machine can do at most
//!
//! Each value of a result is summed in an order that depends on the sizes of the model alone, so a row
//! comes out the same bit for bit whatever other rows are computed beside it. No size is checked beyond
//! assertions: callers check models and requests.

mod activation;
mod attention;
mod codes;
mod dense;
mod format;
mod lanes;
mod limits;
mod matrix;
mod packed;
mod pages;
mod panels;
mod parts;
mod pool;
mod prefetch;
mod product;
mod quantized;
mod rows;
mod sequences;
mod stored;

pub use activation::Activation;
pub use attention::{
    Attention, BlockId, Heads, HostKv, KV_BLOCK_TOKENS, KV_RUN_BLOCKS, KvFormat, Span,
};
pub use codes::{
    CODE_DIMENSIONS_MAX, CODE_DIMENSIONS_MIN, CodeQuery, CodeShape, Encoder, GROUP_VECTORS,
};
pub use dense::DenseMatrix;
pub use format::Format;
pub use lanes::{Level, filled};
pub use limits::{int8_rate, read_bandwidth};
pub use matrix::Matrix;
pub use packed::PackedMatrix;
pub use pages::{Arena, NoMemory};
pub use panels::{Finish, HalfRows, Panels, project};
pub use pool::Pool;
pub use product::{Product, Write, multiply};
pub use quantized::QuantizedRows;
pub use rows::{LayerNorm, Turns, gate, make_rows, rms_norm, turn};
pub use sequences::{EqualHeads, attend_sequences};
pub use stored::HEAD_SIZE_MAX;
