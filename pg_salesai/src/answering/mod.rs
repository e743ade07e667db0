//! Answers from given evidence: the model writes, then every claim is checked against the evidence.

mod answer_json;
mod asked;
mod evidence_rows;
mod options;
mod similarity;
mod streamed;
mod timings;
mod whole;

pub use streamed::{AnswerStream, Ended, Item};
pub use whole::{answered, check_options};
