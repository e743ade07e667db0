//! A generated text taken apart: its sentences, and the evidence numbers that each one cites.

use std::collections::{BTreeSet, HashSet};

use crate::markup::collapse_whitespace;
use crate::sentences::sentence_ranges;
use crate::transcript::split_label;
use crate::words::content_words;

/// A model that writes more than this has lost its way; the rest is not read.
const GENERATED_CHARS_MAX: usize = 8000;

/// One sentence of a generated text.
pub(super) struct Draft {
    /// Without citation marks.
    pub(super) text: String,
    /// The evidence that it cites.
    pub(super) numbers: Vec<u32>,
}

impl Draft {
    pub(super) fn is_question(&self) -> bool {
        self.text.trim_end_matches(['"', '”', ')']).ends_with('?')
    }
}

/// The sentences of a generated text; one that repeats the words of an earlier one is left out.
pub(super) fn read_drafts(generated: &str) -> Vec<Draft> {
    let end = generated
        .char_indices()
        .nth(GENERATED_CHARS_MAX)
        .map_or(generated.len(), |(at, _)| at);
    let mut drafts: Vec<Draft> = Vec::new();
    for line in generated[..end].lines() {
        let first_of_line = drafts.len();
        let line = strip_list_mark(line);
        for range in sentence_ranges(line) {
            let (leading, rest) = take_leading_marks(&line[range]);
            // "It costs 15 euros. [1] They agreed." cites [1] for the sentence before the mark.
            let (text, mut numbers) = strip_marks(rest);
            match drafts
                .get_mut(first_of_line..)
                .and_then(<[Draft]>::last_mut)
            {
                Some(before) => before.numbers.extend(leading),
                None => numbers.extend(leading),
            }
            if text.chars().any(char::is_alphanumeric) {
                drafts.push(Draft { text, numbers });
            }
        }
    }
    drop_repeats(drafts)
}

fn drop_repeats(drafts: Vec<Draft>) -> Vec<Draft> {
    let mut seen = HashSet::new();
    let is_new = |draft: &Draft| {
        let stems: BTreeSet<String> = content_words(&draft.text)
            .into_iter()
            .map(|word| word.stem)
            .collect();
        seen.insert(stems)
    };
    drafts.into_iter().filter(is_new).collect()
}

/// Takes `- `, `* `, `• `, `1. `, and a label as in a transcript (`Answer:`, `Ann Lee:`) off the front of a line.
fn strip_list_mark(line: &str) -> &str {
    let line = line
        .trim()
        .trim_start_matches(['-', '*', '•', '#', '–'])
        .trim_start();
    let line = split_label(line).map_or(line, |(_, text)| line[text..].trim_start());
    let digits_end = line
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(line.len());
    let is_numbered = (1..=2).contains(&digits_end) && line[digits_end..].starts_with(". ");
    if is_numbered {
        line[digits_end + 1..].trim_start()
    } else {
        line
    }
}

/// Splits citation marks off the front of a sentence.
fn take_leading_marks(sentence: &str) -> (Vec<u32>, &str) {
    let mut numbers = Vec::new();
    let mut rest = sentence;
    while let Some((found, length)) = read_mark(rest) {
        numbers.extend(found);
        rest = rest[length..].trim_start();
    }
    (numbers, rest)
}

/// Takes all citation marks out of a sentence.
fn strip_marks(sentence: &str) -> (String, Vec<u32>) {
    let mut text = String::with_capacity(sentence.len());
    let mut numbers = Vec::new();
    let mut rest = sentence;
    while let Some(at) = rest.find('[') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        match read_mark(rest) {
            Some((found, length)) => {
                numbers.extend(found);
                text.truncate(text.trim_end().len());
                rest = &rest[length..];
            }
            None => {
                text.push('[');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    (collapse_whitespace(&text), numbers)
}

/// Reads `[1]` or `[1, 2]` at the front of `text`: its numbers and its length in bytes.
fn read_mark(text: &str) -> Option<(Vec<u32>, usize)> {
    let inside = text.strip_prefix('[')?;
    let end = inside.find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | ';' | ' '))?;
    if end == 0 || !inside[end..].starts_with(']') {
        return None;
    }
    let fields = inside[..end]
        .split([',', ';', ' '])
        .filter(|field| !field.is_empty());
    let numbers: Option<Vec<u32>> = fields.map(|field| field.parse().ok()).collect();
    Some((numbers?, end + 2))
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
