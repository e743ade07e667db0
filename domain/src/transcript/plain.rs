//! Plain text: lines of `Speaker: text` with optional times; a line without a label goes on.

use super::label::split_label;
use super::lines::{Line, lines};
use super::timestamps::parse_time;
use crate::char_offsets::trim_range;
use crate::error::TranscriptError;
use crate::markup::collapse_whitespace;
use crate::segment::{Part, RawSegment, SEGMENTS_MAX, SegmentList};

pub(super) fn parse_plain<'a>(
    text: &'a str,
    segments: &mut SegmentList<'a>,
) -> Result<(), TranscriptError> {
    let mut speaker = None;
    let mut pending_start_ms = None;
    for line in lines(text) {
        let head = read_head(line);
        if let Some(name) = head.speaker {
            speaker = Some(name);
        }
        // A time or label on a line of its own belongs to the text below it.
        let start_ms = head.start_ms.or(pending_start_ms);
        let bytes = trim_range(text, head.text_start..line.end());
        let content = collapse_whitespace(&text[bytes.clone()]);
        pending_start_ms = if content.is_empty() { start_ms } else { None };
        let raw = RawSegment {
            speaker: speaker.clone(),
            bytes,
            start_ms,
            end_ms: None,
            content,
            part: Part::Body,
        };
        segments.push(raw).ok_or(TranscriptError::TooManySegments {
            segments_max: SEGMENTS_MAX,
        })?;
    }
    Ok(())
}

/// What stands before the spoken text of a line.
struct Head {
    speaker: Option<String>,
    start_ms: Option<i64>,
    /// Byte offset in the whole text.
    text_start: usize,
}

fn read_head(line: Line<'_>) -> Head {
    let body = line.text.trim_start_matches('\u{feff}').trim_start();
    let body_start = line.end() - body.len();
    let (mut start_ms, mut offset) = match leading_time(body) {
        Some((time_ms, length)) => (Some(time_ms), length),
        None => (None, 0),
    };
    let mut speaker = None;
    if let Some((label, text_offset)) = split_label(&body[offset..]) {
        let (name, time_ms) = split_label_time(label);
        speaker = Some(collapse_whitespace(name));
        start_ms = start_ms.or(time_ms);
        offset += text_offset;
    }
    Head {
        speaker,
        start_ms,
        text_start: body_start + offset,
    }
}

/// Reads `[00:01:02]`, `(12:34)` or `00:01:02` in front of a line, and its length in bytes.
///
/// A bare `12:34` counts only before a label: "10:30 works for me" is something people say.
fn leading_time(body: &str) -> Option<(i64, usize)> {
    if let Some(close) = closing_bracket(body) {
        let inside = body.get(1..)?;
        let length = inside
            .chars()
            .take(LABEL_TIME_CHARS_MAX)
            .position(|c| c == close)?;
        return Some((parse_time(inside.get(..length)?.trim())?, length + 2));
    }
    let word = body.split_whitespace().next()?;
    let time_ms = parse_time(word)?;
    let is_full = word.matches(':').count() == 2;
    let has_label = split_label(body[word.len()..].trim_start()).is_some();
    (is_full || has_label).then_some((time_ms, word.len()))
}

/// Times in brackets are not longer than this.
const LABEL_TIME_CHARS_MAX: usize = 20;

fn closing_bracket(text: &str) -> Option<char> {
    match text.chars().next()? {
        '[' => Some(']'),
        '(' => Some(')'),
        _ => None,
    }
}

/// Splits `Alice (00:01:02)` into the name and its time.
fn split_label_time(label: &str) -> (&str, Option<i64>) {
    let Some(open) = label.rfind(['[', '(']) else {
        return (label, None);
    };
    let inside = label[open + 1..].trim_end_matches([']', ')']);
    match parse_time(inside.trim()) {
        Some(time_ms) if !label[..open].trim().is_empty() => {
            (label[..open].trim_end(), Some(time_ms))
        }
        _ => (label, None),
    }
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
