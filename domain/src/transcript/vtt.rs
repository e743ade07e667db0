//! WebVTT: Zoom's `Speaker: text` cues and Teams' `<v Speaker>text</v>` voice spans.

use std::ops::Range;

use super::cues::{Cue, CueDialect, CueReader};
use super::format::is_vtt_header;
use super::label::split_label;
use super::lines::lines;
use crate::char_offsets::trim_range;
use crate::error::{TranscriptError, TranscriptProblem};
use crate::markup::{clean_markup, tag_length};
use crate::segment::{Part, RawSegment, SegmentList};

/// A longer voice name is cut.
const SPEAKER_CHARS_MAX: usize = 128;

pub(super) fn parse_vtt<'a>(
    text: &'a str,
    segments: &mut SegmentList<'a>,
) -> Result<(), TranscriptError> {
    let mut lines = lines(text).peekable();
    let header = lines.find(|line| !line.text.trim().is_empty());
    if !header.is_some_and(|line| is_vtt_header(line.text)) {
        let problem = TranscriptProblem::MissingHeader;
        return Err(TranscriptError::Malformed {
            line: header.map_or(1, |line| line.number),
            problem,
        });
    }
    // Header text reaches to a blank line or to the first cue.
    while lines
        .next_if(|line| !line.text.trim().is_empty() && !line.text.contains("-->"))
        .is_some()
    {}

    let mut reader = CueReader::new(CueDialect::Vtt);
    for line in lines {
        if let Some(cue) = reader.take_line(line)? {
            push_cue(text, &cue, segments)?;
        }
    }
    if let Some(cue) = reader.finish() {
        push_cue(text, &cue, segments)?;
    }
    Ok(())
}

/// Adds the segments of one cue: its voice spans, or the whole of it with the label in front.
pub(super) fn push_cue(
    text: &str,
    cue: &Cue,
    segments: &mut SegmentList<'_>,
) -> Result<(), TranscriptError> {
    let mut pieces = voice_pieces(text, cue.payload.clone());
    if pieces.iter().all(|piece| piece.speaker.is_none()) {
        pieces = labelled_pieces(text, cue.payload.clone());
    }
    for piece in pieces {
        let bytes = trim_range(text, piece.bytes);
        let raw = RawSegment {
            speaker: piece.speaker,
            content: clean_markup(&text[bytes.clone()]),
            bytes,
            start_ms: Some(cue.times.start_ms),
            end_ms: Some(cue.times.end_ms),
            part: Part::Body,
        };
        segments.push(raw).ok_or(TranscriptError::TooManySegments {
            segments_max: crate::segment::SEGMENTS_MAX,
        })?;
    }
    Ok(())
}

/// A stretch of a cue's text that one person speaks.
struct Piece {
    speaker: Option<String>,
    bytes: Range<usize>,
}

/// Splits at voice tags; text between two spans goes on with the voice before it.
fn voice_pieces(text: &str, payload: Range<usize>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = Piece {
        speaker: None,
        bytes: payload.start..payload.end,
    };
    let mut at = payload.start;
    while let Some(found) = text[at..payload.end].find('<') {
        let tag_start = at + found;
        let Some(length) = tag_length(&text[tag_start..payload.end]) else {
            at = tag_start + 1;
            continue;
        };
        at = tag_start + length;
        let tag = &text[tag_start..at];
        let voice = voice_name(tag);
        if voice.is_some() || tag == "</v>" {
            let speaker = voice.unwrap_or_else(|| piece.speaker.clone());
            piece.bytes.end = tag_start;
            pieces.push(std::mem::replace(
                &mut piece,
                Piece {
                    speaker,
                    bytes: at..payload.end,
                },
            ));
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| !text[piece.bytes.clone()].trim().is_empty());
    pieces
}

/// The name in `<v Name>` or `<v.class Name>`; the inner `None` is a voice without a name.
fn voice_name(tag: &str) -> Option<Option<String>> {
    let inside = tag.strip_prefix("<v")?.strip_suffix('>')?;
    if !inside.is_empty() && !inside.starts_with(['.', ' ', '\t', '\n', '\r']) {
        return None;
    }
    let name = inside
        .split_once(char::is_whitespace)
        .map_or("", |(_, name)| name);
    let name: String = clean_markup(name).chars().take(SPEAKER_CHARS_MAX).collect();
    Some((!name.is_empty()).then_some(name))
}

/// Splits at lines with a label, if the first line has one; else the text is one piece.
fn labelled_pieces(text: &str, payload: Range<usize>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for line in lines(&text[payload.clone()]) {
        let tags = leading_tags_length(line.text);
        let label = match (split_label(&line.text[tags..]), pieces.last()) {
            (
                Some(label),
                None
                | Some(Piece {
                    speaker: Some(_), ..
                }),
            ) => Some(label),
            (None, None) => None,
            _ => continue,
        };
        let line_start = payload.start + line.start;
        if let Some(Piece { bytes, .. }) = pieces.last_mut() {
            bytes.end = line_start;
        }
        let (speaker, offset) = match label {
            Some((name, offset)) => (Some(clean_markup(name)), tags + offset),
            None => (None, 0),
        };
        let speaker = speaker.filter(|name| !name.is_empty());
        pieces.push(Piece {
            speaker,
            bytes: line_start + offset..payload.end,
        });
    }
    pieces
}

/// Bytes of the tags that a line begins with: the label in `<i>Alice: hello</i>` is inside one.
fn leading_tags_length(line: &str) -> usize {
    let mut length = 0;
    while let Some(tag) = tag_length(&line[length..]) {
        length += tag;
    }
    length
}

#[cfg(test)]
#[path = "vtt_tests.rs"]
mod tests;
