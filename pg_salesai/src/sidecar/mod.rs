//! The one async door of a backend: the only code that opens a socket or runs a future.

mod call;
mod interrupts;
mod stream;
mod transfer;
mod weights;

pub use call::{Deadline, call, pause};
pub use stream::OpenStream;
pub use transfer::send_adapter;
pub use weights::local_weights;
