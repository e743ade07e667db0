//! What is searched for a question: a compound one asks for several things, each of which may stand elsewhere.

use crate::lexical::parse_query;
use crate::sentences::sentence_ranges;
use crate::words::{WordKind, content_words};

/// More parts say little that is new.
const PARTS_MAX: usize = 3;

const INTERROGATIVES: &[&str] = &[
    "who", "whom", "whose", "what", "when", "where", "which", "why", "how",
];
/// What may stand between "and" and an interrogative: "and at what price", "and with how many users".
const PREPOSITIONS: &[&str] = &[
    "about", "after", "at", "before", "by", "during", "for", "from", "in", "on", "since", "to",
    "until", "with",
];

/// The question, and, where it joins several by "and", each of them, with the names of the whole: "Who are we up against
/// at Vestra, and how much cheaper are they?" also asks "how much cheaper are they? Vestra".
///
/// Only the last sentence is taken apart: those before it are what it follows. One who writes minus words or phrases
/// knows what to search for.
pub fn focused_queries(question: &str) -> Vec<String> {
    let mut queries = vec![question.to_owned()];
    let query = parse_query(question);
    let Some(last) = sentence_ranges(question).pop() else {
        return queries;
    };
    let parts = parts(&question[last.clone()]);
    if parts.len() > 1 && query.phrases.is_empty() && query.excluded.is_empty() {
        let names = names(&question[last]);
        queries.extend(parts.into_iter().map(|part| with_names(part, &names)));
    }
    queries
}

/// The questions that "and" joins; one without a content word ("and when") asks for nothing of its own.
fn parts(question: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in question.match_indices(" and ") {
        if parts.len() + 1 < PARTS_MAX && begins_question(&question[at + " and ".len()..]) {
            parts.push(&question[start..at]);
            start = at + " and ".len();
        }
    }
    parts.push(&question[start..]);
    parts.retain(|part| !content_words(part).is_empty());
    parts
}

fn begins_question(text: &str) -> bool {
    let mut words = text
        .split_whitespace()
        .map(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric()));
    let is = |word: Option<&str>, words: &[&str]| word.is_some_and(|word| words.contains(&word));
    let first = words.next();
    is(first, INTERROGATIVES) || is(first, PREPOSITIONS) && is(words.next(), INTERROGATIVES)
}

/// The words with a capital letter, but the first.
fn names(question: &str) -> Vec<&str> {
    question
        .split_whitespace()
        .skip(1)
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| {
            content_words(word)
                .iter()
                .any(|word| word.kind == WordKind::Capitalised)
        })
        .collect()
}

fn with_names(part: &str, names: &[&str]) -> String {
    let part = part.trim().trim_end_matches(',');
    let lacking = names.iter().filter(|name| !part.contains(**name));
    std::iter::once(part)
        .chain(lacking.copied())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
