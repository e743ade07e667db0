//! Semantic operators: what a language model is asked about a document, and what its answer means.
//!
//! - `question`: the operators, and their prompts, in which the document is data between two marks
//! - `fields`: what is to be extracted, as a JSON schema
//! - `condensing`: documents of any length, a piece at a time

mod condensing;
mod fields;
mod question;

pub use condensing::{PIECE_BYTES_MAX, PIECE_BYTES_MIN, join_parts, pieces};
pub use fields::{FieldError, Fields};
pub use question::{Form, Operator, OperatorError, Question};
