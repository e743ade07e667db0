//! The one async door of a backend: the only code that opens a socket or runs a future.

mod call;
mod interrupts;
mod served;
mod stream;
mod transfer;

pub use call::{Deadline, call, pause};
pub use served::{Served, find_model, meant_model, models};
pub use stream::OpenStream;
pub use transfer::send_adapter;
