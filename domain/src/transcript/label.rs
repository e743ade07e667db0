//! The speaker label before an utterance: `Alice: `, `J. Smith (Acme): `, `Tullio | Erigon: `.

const LABEL_CHARS_MAX: usize = 64;
const LABEL_WORDS_MAX: usize = 6;

/// Words that a name does not have after its first word, but the beginning of a sentence does.
const SENTENCE_WORDS: &[&str] = &[
    "are", "but", "do", "does", "has", "have", "how", "i", "if", "is", "it", "my", "our", "so",
    "that", "the", "these", "this", "to", "was", "we", "were", "what", "why", "you", "your",
];

/// Splits `Speaker: text` into the speaker and the byte offset at which the text begins.
///
/// A label ends at the first colon that white space or the end of the line follows, and looks like
/// a name: short, with a letter, not a time, not a link, no end of a sentence inside.
pub(crate) fn split_label(line: &str) -> Option<(&str, usize)> {
    let colon = find_label_colon(line)?;
    let label = line[..colon].trim();
    is_name(label).then_some((label, colon + 1))
}

fn find_label_colon(line: &str) -> Option<usize> {
    let characters = line.char_indices().take(LABEL_CHARS_MAX + 1);
    for (at, character) in characters {
        if character == ':' {
            let next = line[at + 1..].chars().next();
            if next.is_none_or(char::is_whitespace) {
                return Some(at);
            }
        }
    }
    None
}

fn is_name(label: &str) -> bool {
    let mut words = label.split_whitespace();
    let Some(first) = words.next() else {
        return false;
    };
    label.split_whitespace().count() <= LABEL_WORDS_MAX
        && label.chars().any(char::is_alphabetic)
        && !is_clock(first)
        && !label.contains("://")
        && !label.contains(['?', '!', '…', '<', '>'])
        && label.split_whitespace().all(has_no_sentence_end)
        && words.all(|word| !SENTENCE_WORDS.contains(&word))
}

/// Whether a word is a time such as `10:30`.
fn is_clock(word: &str) -> bool {
    word.contains(':')
        && word
            .chars()
            .all(|c| c.is_ascii_digit() || c == ':' || c == '.')
}

/// A full stop ends a sentence unless it closes an initial or abbreviation (`J.`, `Dr.`, `Corp.`).
fn has_no_sentence_end(word: &str) -> bool {
    match word
        .trim_end_matches([')', ']', ',', '"'])
        .strip_suffix('.')
    {
        None => true,
        Some(stem) => stem.chars().count() <= 4 || stem.contains('.'),
    }
}

#[cfg(test)]
#[path = "label_tests.rs"]
mod tests;
