//! Texts from the model, on behalf of the session's role.

mod address;
mod batch;
mod prompted;
mod remembered;
mod streams;
mod text_stream;
mod window;

pub use address::checked_context;
pub use batch::{Batch, Draft, Overload, generate, generate_all};
pub use prompted::Prompted;
pub use text_stream::TextStream;
pub use window::Window;
