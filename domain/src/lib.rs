//! Sales rules in plain Rust: no Postgres, no network, no async.
//!
//! Reading what customers hand over:
//! - [`transcript`]: calls as VTT, SRT or plain text;
//! - [`email`]: RFC 5322 messages, and Outlook's;
//! - [`paragraphs`]: notes and mail bodies;
//! - [`table`]: exports of a CRM as CSV;
//! - [`text_encoding`]: bytes as text;
//! - [`segment`]: the one shape all of them produce.
//!
//! Preparing text for the models:
//! - [`redaction`]: personal data, found and taken out;
//! - [`cleaning`]: marks, fillers and stutters;
//! - [`language`]: which one a text is in;
//! - [`sentences`]: sentence borders;
//! - [`chunking`]: packing segments into model-sized ranges;
//! - [`lexical`]: BM25 and its index;
//! - [`top`]: the best of many documents;
//! - [`discussion`]: whether a question is for what was said rather than for a fact;
//! - [`period`]: when a question is about;
//! - [`diversity`]: what is much the same does not stand together.
//!
//! Answering with proof:
//! - [`answer`]: evidence, prompt, citations, and the rules that decide what may be said.
//!
//! Asking a model about documents:
//! - [`operators`]: classify, is_true, extract, summarize, agg;
//! - [`cascade`]: which of them a cheap classifier may answer;
//! - [`prompt_template`]: what a model is told to do, in texts that a person may change.

pub mod answer;
pub mod cascade;
pub mod chunking;
pub mod cleaning;
pub mod discussion;
pub mod diversity;
pub mod email;
pub mod error;
pub mod key_segments;
pub mod language;
pub mod lexical;
pub mod operators;
pub mod paragraphs;
pub mod period;
pub mod prompt_template;
pub mod redaction;
pub mod segment;
pub mod sentences;
pub mod table;
pub mod text_encoding;
pub mod top;
pub mod transcript;

mod char_offsets;
mod fence;
mod html_text;
mod mail_parts;
mod markup;
mod mime_text;
mod numbers;
mod outlook_message;
mod pieces;
mod redacted;
#[cfg(test)]
mod test_random;
mod words;

pub use error::{EmailError, ParagraphError, TableError, TranscriptError, TranscriptProblem};
pub use pieces::SEGMENT_CHARS_MAX;
pub use segment::{Part, Segment};
