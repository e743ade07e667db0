//! Evidence: the numbered excerpts of interactions that an answer may rest on.

use std::fmt;

use crate::redacted::Redacted;

/// One excerpt of an interaction.
#[derive(Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The number that the model cites, from 1; 1 is the best match.
    pub number: u32,
    /// The interaction that it is from.
    pub interaction_id: i64,
    /// The account that it is about.
    pub account_id: Option<i64>,
    /// The opportunity that it is about.
    pub opportunity_id: Option<i64>,
    /// Its segments in the order of the interaction.
    pub segments: Vec<EvidenceSegment>,
    /// The day of the interaction, `YYYY-MM-DD`.
    pub occurred_on: String,
    /// When the interaction began, in milliseconds of Unix time.
    pub occurred_ms: i64,
    /// Whether its segments sum up the interaction, rather than fit the question.
    pub is_summary: bool,
    /// What and with whom, such as `call "Pricing review" with Acme`.
    pub title: String,
}

/// One segment of an excerpt.
#[derive(Clone, PartialEq, Eq)]
pub struct EvidenceSegment {
    /// The stored segment.
    pub segment_id: i64,
    /// Who said or wrote it.
    pub speaker: Option<String>,
    /// When it began, in milliseconds from the start of the recording.
    pub start_ms: Option<i64>,
    /// When it ended, in milliseconds from the start of the recording.
    pub end_ms: Option<i64>,
    /// First character in the original.
    pub start_char: u32,
    /// Character after the last one in the original.
    pub end_char: u32,
    /// What was said.
    pub content: String,
}

impl fmt::Debug for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Evidence")
            .field("number", &self.number)
            .field("interaction_id", &self.interaction_id)
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EvidenceSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EvidenceSegment")
            .field("segment_id", &self.segment_id)
            .field("content", &Redacted(&self.content))
            .finish_non_exhaustive()
    }
}
