//! Cutting long stretches of text, between sentences where possible, so that every segment fits a chunk.

use std::ops::Range;

use crate::char_offsets::trim_range;
use crate::sentences::sentence_ranges;

/// A longer utterance or paragraph becomes several segments: about 150 tokens of English, which every
/// embedding model takes with room for a heading.
pub const SEGMENT_CHARS_MAX: usize = 600;

/// The stretch itself, or its sentences packed into pieces within the limit, in bytes of `text`.
pub(crate) fn piece_ranges(text: &str, stretch: Range<usize>) -> Vec<Range<usize>> {
    if fits(&text[stretch.clone()]) {
        return vec![stretch];
    }
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut chars_in_last = 0;
    for sentence in sentence_ranges(&text[stretch.clone()]) {
        let sentence = stretch.start + sentence.start..stretch.start + sentence.end;
        for part in word_ranges(text, sentence) {
            let grown = pieces
                .last()
                .map_or(0, |last| text[last.end..part.end].chars().count());
            match pieces.last_mut() {
                Some(last) if chars_in_last + grown <= SEGMENT_CHARS_MAX => {
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
        .nth(SEGMENT_CHARS_MAX)
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

pub(crate) fn fits(stretch: &str) -> bool {
    stretch.len() <= SEGMENT_CHARS_MAX || stretch.chars().nth(SEGMENT_CHARS_MAX).is_none()
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
