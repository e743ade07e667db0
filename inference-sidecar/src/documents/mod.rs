//! Reading documents, in a process of its own for each: parsers meet files from outside, and one that crashes,
//! hangs or eats memory must not take the models along.
//!
//! - `reader`: that process
//! - `pool`: starts it, and bounds how many there are

mod pool;
mod reader;

pub use pool::DocumentPool;
pub use reader::{ReadDocumentArguments, run};

use serde::{Deserialize, Serialize};

/// What the reader writes to its standard output, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome {
    Text {
        format: String,
        media_type: String,
        title: Option<String>,
        markdown: String,
    },
    Problem {
        kind: ProblemKind,
        detail: String,
    },
}

/// Why a document has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProblemKind {
    Encrypted,
    NoText,
    Damaged,
    TooLarge,
    UnknownFormat,
}
