//! Answers from given evidence: the model writes, then every claim is checked against the evidence.

mod answer_json;
mod asked;
mod contradictions_json;
mod evidence_rows;
mod options;
mod packed_request;
mod permission;
mod similarity;
mod streamed;
mod timings;
mod whole;

pub use similarity::Near;
pub use streamed::{AnswerStream, Ended, Item};
pub use whole::{answered, check_options};
