//! An answer and its claims, or the reason why there is none.

use std::fmt;

use super::citation::Citation;
use crate::redacted::Redacted;

/// One statement of an answer, with its proof.
#[derive(Clone, PartialEq)]
pub struct Claim {
    /// The statement, without citation marks.
    pub text: String,
    /// Where it is said; never empty.
    pub citations: Vec<Citation>,
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerMethod {
    /// A language model wrote it.
    Generated,
    /// It is made of sentences of the evidence.
    Extractive,
}

/// An answer that may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How it came about.
    pub method: AnswerMethod,
    /// Its statements; never empty.
    pub claims: Vec<Claim>,
    /// How sure the rules are, from 0 to 1; see `judge_answer` and `extract_answer` for the formula.
    pub confidence: f32,
}

/// Why no answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abstention {
    /// No evidence has anything to do with the question.
    NoMatch,
    /// Nothing that could be said is borne out by the evidence.
    Unsupported,
    /// Only a language model may answer, and none is served.
    ModelUnavailable,
}

impl AnswerMethod {
    /// The stable name of the method.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Extractive => "extractive",
        }
    }
}

impl Abstention {
    /// The stable name of the reason.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoMatch => "no_match",
            Self::Unsupported => "unsupported",
            Self::ModelUnavailable => "model_unavailable",
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Claim")
            .field("text", &Redacted(&self.text))
            .field("citations", &self.citations)
            .finish()
    }
}
