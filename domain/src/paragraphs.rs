//! Notes and mail bodies: paragraphs between blank lines, long ones cut between sentences.

use std::ops::Range;

use crate::char_offsets::trim_range;
use crate::error::ParagraphError;
use crate::markup::collapse_whitespace;
use crate::segment::{RawSegment, SEGMENTS_MAX, Segment, SegmentList};
use crate::sentences::sentence_ranges;

/// A longer paragraph is cut into several segments.
pub const PARAGRAPH_CHARS_MAX: usize = 4000;

/// Splits `text` into one segment per paragraph, without speaker; ranges are characters of `text`.
pub fn split_paragraphs(text: &str) -> Result<Vec<Segment>, ParagraphError> {
    split_paragraphs_of(text, None)
}

/// Like [`split_paragraphs`], all by one writer.
pub(crate) fn split_paragraphs_of(
    text: &str,
    writer: Option<&str>,
) -> Result<Vec<Segment>, ParagraphError> {
    let mut segments = SegmentList::new(text);
    for paragraph in paragraph_ranges(text) {
        for bytes in piece_ranges(text, paragraph) {
            let raw = RawSegment {
                speaker: writer.map(str::to_owned),
                content: collapse_whitespace(&text[bytes.clone()]),
                bytes,
                start_ms: None,
                end_ms: None,
            };
            segments.push(raw).ok_or(ParagraphError::TooManySegments {
                segments_max: SEGMENTS_MAX,
            })?;
        }
    }
    Ok(segments.into_segments())
}

/// Byte ranges of the stretches without a blank line, trimmed and not empty.
fn paragraph_ranges(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut lines = text.split_inclusive('\n');
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut start = None;
        for line in lines.by_ref() {
            let line_start = at;
            at += line.len();
            let is_blank = line.trim().is_empty();
            match start {
                None if !is_blank => start = Some(line_start),
                Some(start) if is_blank => return Some(trim_range(text, start..line_start)),
                _ => {}
            }
        }
        start.map(|start| trim_range(text, start..at))
    })
}

/// The paragraph itself, or its sentences packed into pieces within the limit.
fn piece_ranges(text: &str, paragraph: Range<usize>) -> Vec<Range<usize>> {
    if fits(&text[paragraph.clone()]) {
        return vec![paragraph];
    }
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut chars_in_last = 0;
    for sentence in sentence_ranges(&text[paragraph.clone()]) {
        let sentence = paragraph.start + sentence.start..paragraph.start + sentence.end;
        for part in word_ranges(text, sentence) {
            let grown = pieces
                .last()
                .map_or(0, |last| text[last.end..part.end].chars().count());
            match pieces.last_mut() {
                Some(last) if chars_in_last + grown <= PARAGRAPH_CHARS_MAX => {
                    last.end = part.end;
                    chars_in_last += grown;
                }
                _ => {
                    chars_in_last = text[part.clone()].chars().count();
                    pieces.push(part);
                }
            }
        }
    }
    pieces
}

/// The sentence itself, or stretches within the limit, cut at white space where there is some.
fn word_ranges(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = sentence.start;
    while let Some((limit, _)) = text[start..sentence.end]
        .char_indices()
        .nth(PARAGRAPH_CHARS_MAX)
    {
        let window = &text[start..start + limit];
        let cut = window
            .rfind(char::is_whitespace)
            .filter(|&cut| cut > 0)
            .unwrap_or(limit);
        parts.push(trim_range(text, start..start + cut));
        start = trim_range(text, start + cut..sentence.end).start;
    }
    parts.push(start..sentence.end);
    parts.retain(|part| !part.is_empty());
    parts
}

fn fits(paragraph: &str) -> bool {
    paragraph.len() <= PARAGRAPH_CHARS_MAX || paragraph.chars().nth(PARAGRAPH_CHARS_MAX).is_none()
}

#[cfg(test)]
#[path = "paragraphs_tests.rs"]
mod tests;
