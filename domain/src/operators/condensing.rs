//! Long documents are condensed a piece at a time, and what came of the pieces once more.

use crate::sentences::sentence_ranges;

/// Bytes of a piece: about 1,100 tokens of English, which fit a window of 2,048 with the rules and the answer. Of a text
/// with more tokens, such as a table of numbers, the pieces are halved until they fit, down to the least.
pub const PIECE_BYTES_MAX: usize = 4500;
pub const PIECE_BYTES_MIN: usize = 500;

/// The document in pieces of at most so many bytes, which end where sentences or words do; itself where it is short, none where it is blank.
pub fn pieces(document: &str, bytes_max: usize) -> Vec<&str> {
    let mut pieces: Vec<&str> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    for sentence in sentence_ranges(document) {
        for (start, end) in parts(document, sentence.start, sentence.end, bytes_max) {
            last = Some(match last {
                Some((first, _)) if end - first <= bytes_max => (first, end),
                Some((first, until)) => {
                    pieces.push(&document[first..until]);
                    (start, end)
                }
                None => (start, end),
            });
        }
    }
    pieces.extend(last.map(|(first, until)| &document[first..until]));
    pieces
}

/// A sentence, or stretches of one that is too long, cut at white space where there is some.
fn parts(document: &str, mut start: usize, end: usize, bytes_max: usize) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    while end - start > bytes_max {
        let window = document.floor_char_boundary(start + bytes_max);
        let space = document[start..window].rfind(char::is_whitespace);
        let cut = space.filter(|&at| at > 0).map_or(window, |at| start + at);
        parts.push((start, cut));
        let rest = document[cut..end].trim_start();
        start = end - rest.len();
    }
    parts.push((start, end));
    parts
}

/// What came of the pieces of a document, as the document of the next round.
pub fn join_parts<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.map(str::trim).collect::<Vec<&str>>().join("\n")
}

/// A text that ended in the middle, cut back to its last whole sentence or line, if it has one.
pub(super) fn whole_sentences(text: &str) -> &str {
    let end_of_line = text.trim_end().rfind('\n');
    let sentences = sentence_ranges(text);
    // "2." begins an item of a list.
    let is_number = |sentence: &str| {
        sentence
            .trim_end_matches(['.', ')'])
            .chars()
            .all(|c| c.is_ascii_digit())
    };
    let end_of_sentence = match sentences.as_slice() {
        [whole @ .., _] => whole
            .iter()
            .rev()
            .find(|sentence| !is_number(&text[(*sentence).clone()]))
            .map(|sentence| sentence.end),
        [] => None,
    };
    let end = end_of_line.max(end_of_sentence).unwrap_or(text.len());
    text[..end].trim_end()
}

#[cfg(test)]
#[path = "condensing_tests.rs"]
mod tests;
