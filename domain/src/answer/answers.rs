//! An answer and its claims, or the reason why there is none.

use std::fmt;

use super::citation::Citation;
use super::contradiction::Order;
use crate::redacted::Redacted;

/// One statement of an answer, with its proof.
#[derive(Clone, PartialEq)]
pub struct Claim {
    /// The statement, without citation marks.
    pub text: String,
    /// Where it is said; never empty.
    pub citations: Vec<Citation>,
    /// What the evidence says against it.
    pub against: Vec<Objection>,
}

/// What contradicts a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Objection {
    /// What it contradicts, of what the claim rests on.
    pub disputed: Citation,
    /// Where it is said.
    pub citation: Citation,
    /// When it was said, seen from the claim.
    pub order: Order,
}

/// What is left of a claim after what the evidence says against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, or only something that was said before.
    Holds,
    /// Something else was said later.
    Superseded,
    /// Something else was said, and nothing decides between them.
    Disputed,
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
#[derive(Debug, Clone, PartialEq)]
pub enum Abstention {
    /// No evidence has anything to do with the question.
    NoMatch,
    /// Who asks may see no interaction at all.
    NotPermitted,
    /// Nothing that could be said is borne out by the evidence.
    Unsupported,
    /// All that could be said is contradicted: by these claims, in the order of time.
    Conflicting(Vec<Claim>),
    /// Only a language model may answer, and none is served.
    ModelUnavailable,
}

impl Claim {
    /// A claim that nothing is known against.
    pub(super) fn new(text: String, citations: Vec<Citation>) -> Self {
        Self {
            text,
            citations,
            against: Vec::new(),
        }
    }

    /// What is left of it.
    pub fn standing(&self) -> Standing {
        let has = |order| self.against.iter().any(|against| against.order == order);
        if has(Order::Later) {
            Standing::Superseded
        } else if has(Order::Undecided) {
            Standing::Disputed
        } else {
            Standing::Holds
        }
    }

    /// Whether both cite the same places.
    pub(super) fn rests_on_same(&self, other: &Self) -> bool {
        let is_cited =
            |citation: &Citation| self.citations.iter().any(|own| own.is_place_of(citation));
        other.citations.iter().all(is_cited)
    }
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
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoMatch => "no_match",
            Self::NotPermitted => "not_permitted",
            Self::Unsupported => "unsupported",
            Self::Conflicting(_) => "conflicting",
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
            .field("against", &self.against)
            .finish()
    }
}
