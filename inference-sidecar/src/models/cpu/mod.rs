//! What the CPU computes outside of candle: products with packed weights, and attention over blocks.
//!
//! Each value of a result is summed in an order that depends on the sizes of the model alone, so a row
//! comes out the same bit for bit whatever other rows are computed beside it.

mod attention;
mod dot;
mod product;

pub(super) use attention::{Heads, HostKv, Place, attend};
pub(super) use product::product;
