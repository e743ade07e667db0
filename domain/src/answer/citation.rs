//! A citation: the exact words of a segment that bear a claim out.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::char_offsets::CharOffsets;
use crate::redacted::Redacted;

/// A quote with less than this share of its words in place is not found.
const QUOTE_SCORE_MIN: f32 = 0.8;

/// The score of a quote that differs in case, white space or punctuation only.
const NEAR_SCORE: f32 = 0.99;

/// One place in the evidence.
#[derive(Clone, PartialEq)]
pub struct Citation {
    /// The number of the evidence.
    pub number: u32,
    /// The interaction that holds the quote.
    pub interaction_id: i64,
    /// The segment that holds the quote.
    pub segment_id: i64,
    /// The words as they are in the segment's content.
    pub quote: String,
    /// First character of the quote in the segment's content.
    pub quote_start: u32,
    /// Character after the last one of the quote in the segment's content.
    pub quote_end: u32,
    /// The share of the claim's content words that the cited sentences hold; 1 is all of them.
    pub similarity: f32,
}

impl Citation {
    /// Whether both are the same place.
    pub fn is_place_of(&self, other: &Self) -> bool {
        let place = |citation: &Self| {
            (
                citation.segment_id,
                citation.quote_start,
                citation.quote_end,
            )
        };
        place(self) == place(other)
    }
}

/// Finds `quote` in `content`: its character range and how exact the match is (1 is word for word).
///
/// Without an exact match, the stretch with as many words as the quote and most of them in common is
/// taken, if that is at least 80 % of them.
pub fn locate_quote(quote: &str, content: &str) -> Option<(Range<u32>, f32)> {
    let quote = quote.trim();
    if quote.is_empty() {
        return None;
    }
    if let Some(start) = content.find(quote) {
        return Some((char_range(content, start..start + quote.len()), 1.0));
    }
    let quote_words: Vec<String> = quote.unicode_words().map(str::to_lowercase).collect();
    let words: Vec<(usize, &str)> = content.unicode_word_indices().collect();
    let (first, common) = best_window(&quote_words, &words)?;
    let score = (common as f32 / quote_words.len() as f32).min(NEAR_SCORE);
    let (start, _) = words[first];
    let (last_start, last) = words[first + quote_words.len() - 1];
    let range = char_range(content, start..last_start + last.len());
    (score >= QUOTE_SCORE_MIN).then_some((range, score))
}

/// The window of `words`, as long as the quote, that shares most words with it: its start and count.
fn best_window(quote_words: &[String], words: &[(usize, &str)]) -> Option<(usize, usize)> {
    let length = quote_words.len();
    if length == 0 || words.len() < length {
        return None;
    }
    let words: Vec<String> = words.iter().map(|(_, word)| word.to_lowercase()).collect();
    // Counts down what the quote still lacks; a word in the window that it does not need goes below 0.
    let mut lacking: HashMap<&str, i64> = HashMap::new();
    for word in quote_words {
        *lacking.entry(word).or_default() += 1;
    }
    let mut common = 0_usize;
    let mut best: Option<(usize, usize)> = None;
    for (at, word) in words.iter().enumerate() {
        let count = lacking.entry(word).or_default();
        common += usize::from(*count > 0);
        *count -= 1;
        if at >= length {
            let count = lacking.entry(&words[at - length]).or_default();
            *count += 1;
            common -= usize::from(*count > 0);
        }
        if at + 1 >= length && best.is_none_or(|(_, most)| common > most) {
            best = Some((at + 1 - length, common));
        }
    }
    best
}

/// Characters of a byte range.
pub(super) fn char_range(content: &str, bytes: Range<usize>) -> Range<u32> {
    let mut offsets = CharOffsets::new(content);
    offsets.at(bytes.start)..offsets.at(bytes.end)
}

impl fmt::Debug for Citation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Citation")
            .field("number", &self.number)
            .field("segment_id", &self.segment_id)
            .field("quote", &Redacted(&self.quote))
            .field("quote_chars", &(self.quote_start..self.quote_end))
            .field("similarity", &self.similarity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "citation_tests.rs"]
mod tests;
