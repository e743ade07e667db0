//! Segments as JSON for the SQL that stores them.

use domain::Segment;
use serde_json::{Value, json};

pub fn segments_json(segments: &[Segment]) -> Value {
    segments
        .iter()
        .map(|segment| {
            json!({
                "speaker": segment.speaker,
                "turn": segment.turn,
                "start_char": segment.start_char,
                "end_char": segment.end_char,
                "start_ms": segment.start_ms,
                "end_ms": segment.end_ms,
                "content": segment.content,
                "part": segment.part.name(),
            })
        })
        .collect()
}
