//! Semantic operators over documents: one batch of questions for all of them, a value or an error for each.

mod application;
mod asking;
mod cascade;
mod condensing;
mod document_error;
mod oracle;
mod pupil;
mod statistics;

pub use application::{Application, Applied, Outcome, applied, apply};
pub use asking::Maker;
pub use cascade::{Targeted, cascade};
pub use document_error::DocumentError;
pub use statistics::statistics;
