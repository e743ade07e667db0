//! The words that carry meaning: lower case, lightly stemmed, without the small ones.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use crate::numbers::{NumberWord, fold_numbers};

/// English words that say nothing about the subject; reporting verbs are among them.
const STOP_WORDS: &[&str] = &[
    "a",
    "about",
    "according",
    "actually",
    "after",
    "again",
    "all",
    "also",
    "am",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "because",
    "been",
    "before",
    "being",
    "but",
    "by",
    "can",
    "could",
    "did",
    "do",
    "does",
    "doing",
    "for",
    "from",
    "get",
    "gets",
    "go",
    "going",
    "gonna",
    "got",
    "had",
    "has",
    "have",
    "having",
    "he",
    "her",
    "here",
    "him",
    "his",
    "how",
    "however",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "just",
    "kind",
    "let",
    "like",
    "may",
    "maybe",
    "me",
    "mean",
    "mentioned",
    "might",
    "much",
    "must",
    "my",
    "of",
    "oh",
    "ok",
    "okay",
    "on",
    "or",
    "our",
    "ours",
    "out",
    "over",
    "really",
    "right",
    "said",
    "say",
    "says",
    "she",
    "should",
    "so",
    "some",
    "sort",
    "stated",
    "such",
    "than",
    "thanks",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "thing",
    "things",
    "think",
    "this",
    "those",
    "to",
    "too",
    "uh",
    "um",
    "under",
    "up",
    "us",
    "very",
    "was",
    "we",
    "well",
    "were",
    "what",
    "when",
    "where",
    "which",
    "while",
    "who",
    "whom",
    "whose",
    "why",
    "will",
    "with",
    "would",
    "yeah",
    "yep",
    "yes",
    "you",
    "your",
    "no",
    "not",
    "never",
    "cannot",
    "without",
    "nor",
    "many",
];

/// Words that turn a statement into its opposite; "no" is left out, for speech opens with it.
const NEGATIONS: &[&str] = &[
    "not", "never", "cannot", "without", "nor", "neither", "nobody", "nothing",
];

/// One word that carries meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentWord {
    /// The form that is compared: stem or plain number.
    pub(crate) stem: String,
    pub(crate) kind: WordKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordKind {
    Plain,
    /// Written with a capital letter.
    Capitalised,
    Number,
}

/// The content words of `text` in order.
pub(crate) fn content_words(text: &str) -> Vec<ContentWord> {
    let words = fold_numbers(
        text.unicode_word_indices()
            .map(|(at, word)| (word, &text[at + word.len()..])),
    );
    words.into_iter().filter_map(content_word).collect()
}

/// The distinct stems of `text`.
pub(crate) fn stems(text: &str) -> HashSet<String> {
    content_words(text)
        .into_iter()
        .map(|word| word.stem)
        .collect()
}

/// Whether `text` denies something.
pub(crate) fn is_negated(text: &str) -> bool {
    text.unicode_words().any(|word| {
        let word = word.to_lowercase().replace('’', "'");
        word.ends_with("n't") || NEGATIONS.contains(&word.as_str())
    })
}

fn content_word(word: NumberWord<'_>) -> Option<ContentWord> {
    let text = match word {
        NumberWord::Number(stem) => {
            return Some(ContentWord {
                stem,
                kind: WordKind::Number,
            });
        }
        NumberWord::Text(text) => text,
    };
    let lower = text.to_lowercase().replace('’', "'");
    let base = lower.split('\'').next().unwrap_or_default();
    let is_contraction = lower.ends_with("n't");
    if base.is_empty() || is_contraction || STOP_WORDS.contains(&base) {
        return None;
    }
    let is_capitalised = text.starts_with(char::is_uppercase);
    let kind = if is_capitalised {
        WordKind::Capitalised
    } else {
        WordKind::Plain
    };
    Some(ContentWord {
        stem: stem(base),
        kind,
    })
}

/// Takes off the commonest English endings: prices → price, agreed → agre, meeting → meet.
///
/// A stem is only ever compared with stems, so it need not be a word.
fn stem(word: &str) -> String {
    let mut stem = word;
    for (ending, kept_min) in [
        ("ies", 3),
        ("ing", 3),
        ("ed", 3),
        ("es", 3),
        ("ly", 4),
        ("s", 3),
    ] {
        let Some(shorter) = stem.strip_suffix(ending) else {
            continue;
        };
        let keeps_s = ending == "s" && shorter.ends_with(['s', 'u', 'i']);
        if shorter.chars().count() >= kept_min && !keeps_s {
            stem = shorter;
            break;
        }
    }
    // "price" and "pricing", "agree" and "agreed", "company" and "companies" meet here.
    while let Some(shorter) = stem.strip_suffix(['e', 'y']).filter(|stem| stem.len() >= 3) {
        stem = shorter;
    }
    let mut characters = stem.chars().rev();
    match (characters.next(), characters.next()) {
        (Some(last), Some(before)) if last == before && stem.len() > 3 => {
            stem[..stem.len() - last.len_utf8()].to_owned()
        }
        _ => stem.to_owned(),
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
