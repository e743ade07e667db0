//! Gong's JSON: the answer of `/v2/calls/transcript` for one call, or the call alone, with or without the `parties`
//! of `/v2/calls/extensive` beside it (Gong API v2, `CallTranscript`, `Monologue`, `Sentence`, `Party`).

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{TranscriptError, TranscriptProblem};
use crate::markup::collapse_whitespace;
use crate::segment::{Part, RawSegment, SEGMENTS_MAX, SegmentList};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    call_transcripts: Vec<Call<'a>>,
    #[serde(borrow, default)]
    transcript: Vec<Monologue<'a>>,
    #[serde(default)]
    parties: Vec<Party>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    transcript: Vec<Monologue<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Monologue<'a> {
    #[serde(default)]
    speaker_id: Option<String>,
    #[serde(borrow, default)]
    sentences: Vec<Sentence<'a>>,
}

/// Times in milliseconds from the start of the call.
#[derive(Deserialize)]
struct Sentence<'a> {
    start: Option<i64>,
    end: Option<i64>,
    /// As it stands in the file, so that its place is known.
    #[serde(borrow)]
    text: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Party {
    speaker_id: Option<String>,
    name: Option<String>,
    email_address: Option<String>,
}

pub(super) fn parse_gong<'a>(
    text: &'a str,
    segments: &mut SegmentList<'a>,
) -> Result<(), TranscriptError> {
    let json = text.trim_start_matches('\u{feff}');
    let mut answer: Answer<'_> =
        serde_json::from_str(json).map_err(|error| malformed(error.line()))?;
    if answer.call_transcripts.len() > 1 {
        return Err(TranscriptError::Malformed {
            line: 1,
            problem: TranscriptProblem::SeveralCalls,
        });
    }
    let call = answer.call_transcripts.pop().map(|call| call.transcript);
    let names: HashMap<String, String> = answer
        .parties
        .into_iter()
        .filter_map(Party::named)
        .collect();
    for monologue in call.unwrap_or(answer.transcript) {
        let speaker = monologue.speaker_id.map(|id| match names.get(&id) {
            Some(name) => name.clone(),
            None => format!("Speaker {id}"),
        });
        for sentence in monologue.sentences {
            let raw = RawSegment {
                speaker: speaker.clone(),
                bytes: place(text, sentence.text.get()),
                start_ms: sentence.start,
                end_ms: sentence.end,
                content: sentence.content()?,
                part: Part::Body,
            };
            segments.push(raw).ok_or(TranscriptError::TooManySegments {
                segments_max: SEGMENTS_MAX,
            })?;
        }
    }
    Ok(())
}

/// Whether a text looks like JSON with a transcript.
pub(super) fn is_gong(text: &str) -> bool {
    const START: usize = 4096;
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let end = text
        .char_indices()
        .nth(START)
        .map_or(text.len(), |(end, _)| end);
    text.starts_with('{')
        && ["\"callTranscripts\"", "\"transcript\""]
            .iter()
            .any(|key| text[..end].contains(key))
}

impl Sentence<'_> {
    fn content(&self) -> Result<String, TranscriptError> {
        let text: String = serde_json::from_str(self.text.get()).map_err(|_| malformed(1))?;
        Ok(collapse_whitespace(&text))
    }
}

impl Party {
    /// Its id as a speaker, and how it is called.
    fn named(self) -> Option<(String, String)> {
        let name = self.name.filter(|name| !name.trim().is_empty());
        Some((self.speaker_id?, name.or(self.email_address)?))
    }
}

/// Bytes of a JSON string within its quotes; `part` is a part of `text`.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start + 1..start + part.len() - 1
}

fn malformed(line: usize) -> TranscriptError {
    TranscriptError::Malformed {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        problem: TranscriptProblem::NotGong,
    }
}

#[cfg(test)]
#[path = "gong_tests.rs"]
mod tests;
