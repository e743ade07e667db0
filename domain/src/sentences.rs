//! Where sentences end, in time linear in the text.
//!
//! Unicode's sentence bounds (UAX 29) know no abbreviations, and the implementation at hand takes
//! quadratic time on text such as `.))))…`; these rules are the part of UAX 29 that prose needs.

use std::ops::Range;

/// Words that a full stop shortens; one that is also a word counts only where [`is_abbreviation`] says.
const ABBREVIATIONS: &[&str] = &[
    "a.m", "approx", "apr", "aug", "bros", "cf", "co", "corp", "dec", "dept", "dr", "e.g", "etc",
    "excl", "feb", "i.e", "inc", "incl", "jan", "jr", "llc", "ltd", "messrs", "mr", "mrs", "ms",
    "nov", "oct", "p.m", "ph.d", "prof", "sept", "sr", "st", "u.k", "u.s", "vs",
];

/// Abbreviations only before a number: "No. 5", "pp. 12".
const NUMBER_ABBREVIATIONS: &[&str] = &["no", "nos", "p", "pp", "vol", "art", "sec"];

const CLOSERS: &[char] = &['"', '\'', '”', '’', ')', ']', '»', '*', '_'];

/// Byte ranges of the sentences of `text`: trimmed, in order, none empty.
pub fn sentence_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut word_start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let mut end = at + character.len_utf8();
        if character.is_whitespace() {
            word_start = end;
            continue;
        }
        if !is_terminator(character) {
            continue;
        }
        let mut last = character;
        while let Some((next_at, next)) =
            characters.next_if(|(_, next)| is_terminator(*next) || CLOSERS.contains(next))
        {
            last = next;
            end = next_at + next.len_utf8();
        }
        let word = &text[word_start..at];
        let is_single_stop = character == '.' && !text[at + 1..end].contains(is_terminator);
        if ends_sentence(&text[end..], last)
            && !(is_single_stop && is_abbreviation(word, &text[end..]))
        {
            push_trimmed(text, start..end, &mut ranges);
            start = end;
        }
    }
    push_trimmed(text, start..text.len(), &mut ranges);
    ranges
}

fn is_terminator(character: char) -> bool {
    matches!(character, '.' | '!' | '?' | '…') || is_wide_terminator(character)
}

/// Terminators of scripts that put no space behind them.
fn is_wide_terminator(character: char) -> bool {
    matches!(character, '。' | '！' | '？')
}

/// A sentence ends before white space, unless the text goes on with a small letter.
fn ends_sentence(rest: &str, last: char) -> bool {
    let next_is_space = rest.chars().next().is_none_or(char::is_whitespace);
    let goes_on = rest
        .trim_start()
        .chars()
        .next()
        .is_some_and(char::is_lowercase);
    is_wide_terminator(last) || (next_is_space && !goes_on)
}

/// Whether the full stop after `word` only shortens it: "Mr.", "e.g.", "J.", "No. 5".
fn is_abbreviation(word: &str, rest: &str) -> bool {
    // Longer words are none, and are not worth a copy.
    if word.len() > 16 {
        return false;
    }
    let word = word.trim_start_matches(['(', '[', '"', '\'', '“', '‘']);
    let mut characters = word.chars();
    let is_initial = matches!((characters.next(), characters.next()), (Some(c), None) if c.is_uppercase() && c != 'I');
    let word = word.to_lowercase();
    let before_number = rest.trim_start().starts_with(|c: char| c.is_ascii_digit());
    is_initial
        || ABBREVIATIONS.contains(&word.as_str())
        || (before_number && NUMBER_ABBREVIATIONS.contains(&word.as_str()))
}

fn push_trimmed(text: &str, range: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let range = crate::char_offsets::trim_range(text, range);
    if !range.is_empty() {
        ranges.push(range);
    }
}

#[cfg(test)]
#[path = "sentences_tests.rs"]
mod tests;
