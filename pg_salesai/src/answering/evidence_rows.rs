//! Evidence as `salesai.evidence` writes it.

use domain::answer::{Evidence, EvidenceSegment};
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;

/// The evidence of a question.
pub fn read(evidence: Value) -> Result<Vec<Evidence>, Error> {
    let rows: Vec<EvidenceRow> = serde_json::from_value(evidence)?;
    Ok(rows.into_iter().map(Evidence::from).collect())
}

#[derive(Deserialize)]
struct EvidenceRow {
    number: u32,
    interaction_id: i64,
    title: String,
    occurred_on: String,
    // A schema of before 0.3.0 does not say these.
    #[serde(default)]
    occurred_ms: i64,
    account_id: Option<i64>,
    opportunity_id: Option<i64>,
    #[serde(default)]
    is_summary: bool,
    segments: Option<Vec<SegmentRow>>,
}

#[derive(Deserialize)]
struct SegmentRow {
    segment_id: i64,
    speaker: Option<String>,
    start_ms: Option<i64>,
    end_ms: Option<i64>,
    start_char: u32,
    end_char: u32,
    content: String,
}

impl From<EvidenceRow> for Evidence {
    fn from(row: EvidenceRow) -> Self {
        Self {
            number: row.number,
            interaction_id: row.interaction_id,
            account_id: row.account_id,
            opportunity_id: row.opportunity_id,
            segments: row
                .segments
                .unwrap_or_default()
                .into_iter()
                .map(EvidenceSegment::from)
                .collect(),
            occurred_on: row.occurred_on,
            occurred_ms: row.occurred_ms,
            is_summary: row.is_summary,
            title: row.title,
        }
    }
}

impl From<SegmentRow> for EvidenceSegment {
    fn from(row: SegmentRow) -> Self {
        Self {
            segment_id: row.segment_id,
            speaker: row.speaker,
            start_ms: row.start_ms,
            end_ms: row.end_ms,
            start_char: row.start_char,
            end_char: row.end_char,
            content: row.content,
        }
    }
}
