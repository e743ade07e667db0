//! What can be wrong with a text that is handed over; no message repeats the customer's words.

use thiserror::Error;

/// Why a transcript could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TranscriptError {
    /// There is nothing but white space.
    #[error("transcript is empty")]
    Empty,
    /// The text is over the size limit.
    #[error("transcript has {bytes} bytes, more than {bytes_max}")]
    TooLong {
        /// Size of the text.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The text has more utterances than one interaction may have.
    #[error("transcript has more than {segments_max} segments")]
    TooManySegments {
        /// The limit.
        segments_max: usize,
    },
    /// A line breaks the rules of the format.
    #[error("transcript line {line} is malformed: {problem}")]
    Malformed {
        /// Line number from 1.
        line: u32,
        /// Which rule is broken.
        problem: TranscriptProblem,
    },
    /// The named format is none of those known.
    #[error("unknown transcript format \"{0}\"")]
    UnknownFormat(String),
    /// The text has the right shape and nobody says anything.
    #[error("transcript has no segments")]
    NoSegments,
}

/// Which rule a malformed line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TranscriptProblem {
    /// A VTT file must begin with `WEBVTT`.
    #[error("the WEBVTT header is missing")]
    MissingHeader,
    /// A line with an arrow must have a time on both sides.
    #[error("the cue times cannot be read")]
    UnreadableTimes,
    /// Gong's JSON has monologues with sentences.
    #[error("it is not Gong's JSON of a call")]
    NotGong,
    /// One interaction is one call.
    #[error("it has more than one call")]
    SeveralCalls,
}

/// Why a text could not be split into paragraphs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParagraphError {
    /// The text has more paragraphs than one interaction may have.
    #[error("text has more than {segments_max} paragraphs")]
    TooManySegments {
        /// The limit.
        segments_max: usize,
    },
}

/// Why an email could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmailError {
    /// There is nothing but white space.
    #[error("email is empty")]
    Empty,
    /// The message is over the size limit.
    #[error("email has {bytes} bytes, more than {bytes_max}")]
    TooLong {
        /// Size of the message.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// No header that emails have was found.
    #[error("email has no known header")]
    NotAMessage,
    /// PGP or S/MIME: only who has the key can read it.
    #[error("email is encrypted")]
    Encrypted,
    /// The body has more paragraphs than one interaction may have.
    #[error(transparent)]
    Body(#[from] ParagraphError),
}

/// Why a CSV file could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TableError {
    /// The first line names no fields.
    #[error("table has no line with the names of its fields")]
    NoHeader,
    /// A record has another number of fields than the first line.
    #[error("table line {line} has {found} fields, the first line {expected}")]
    FieldCount {
        /// Line number from 1.
        line: u64,
        /// Fields of the first line.
        expected: u64,
        /// Fields of this one.
        found: u64,
    },
    /// A line breaks the rules of the format.
    #[error("table line {line} cannot be read")]
    Malformed {
        /// Line number from 1.
        line: u64,
    },
}
