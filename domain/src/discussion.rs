//! Questions for what was said on a subject, which passages answer, rather than for a fact, which a sentence does.

/// Beginnings of the word that a request for a summary begins with, behind what only makes it polite.
const REQUESTS: [&str; 3] = ["summar", "recap", "overview"];
const POLITE: [&str; 14] = [
    "please", "can", "could", "you", "give", "show", "write", "provide", "me", "us", "a", "an",
    "the", "short",
];
/// Questions for what was said. Those with other words are for facts: "Who discussed it?"
const QUESTIONS: [&str; 3] = ["what", "how", "why"];
/// Beginnings of words that ask for a discussion.
const STEMS: [&str; 2] = ["discuss", "debat"];
/// Words that do so before the second.
const PAIRS: [(&[&str], &[&str]); 3] = [
    (&["talk", "talks", "talked", "talking"], &["about"]),
    (&["say", "says", "said"], &["about"]),
    (
        &["think", "thinks", "thought", "thinking"],
        &["about", "of"],
    ),
];

/// What an English query that asks for a discussion asks about: without the words that only ask, which would be looked for
/// where somebody summarises something else. `None` where it asks for no discussion.
pub fn subject_of_discussion(query: &str) -> Option<String> {
    let words: Vec<&str> = query.split_whitespace().collect();
    let bare: Vec<String> = words.iter().map(|word| bare(word)).collect();
    let begins = |word: &str, stems: &[&str]| stems.iter().any(|stem| word.starts_with(stem));
    let first = bare
        .iter()
        .position(|word| !POLITE.contains(&word.as_str()))?;
    let is_request = begins(&bare[first], &REQUESTS);
    let mut asks: Vec<bool> = (0..words.len())
        .map(|at| is_request && at <= first)
        .collect();
    for (at, word) in bare.iter().enumerate() {
        let next = bare.get(at + 1).map_or("", String::as_str);
        let is_pair = |(first, second): &(&[&str], &[&str])| {
            first.contains(&word.as_str()) && second.contains(&next)
        };
        if PAIRS.iter().any(is_pair) {
            asks[at] = true;
            asks[at + 1] = true;
        }
        asks[at] |= begins(word, &STEMS);
    }
    let is_question = QUESTIONS.contains(&bare[first].as_str()) || begins(&bare[first], &STEMS);
    if !(is_request || is_question) || !asks.contains(&true) {
        return None;
    }
    let left = words.into_iter().zip(asks).filter(|(_, asks)| !asks);
    Some(left.map(|(word, _)| word).collect::<Vec<_>>().join(" "))
}

fn bare(word: &str) -> String {
    word.trim_matches(|character: char| !character.is_alphanumeric())
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::subject_of_discussion;

    /// Goal: discussions are told from facts, also where words look alike, and only what asks is taken out.
    #[test]
    fn discussions_and_facts() {
        for (query, subject) in [
            (
                "Summarise the last call with Halden.",
                "the last call with Halden.",
            ),
            ("What did we DISCUSS on pricing?", "What did we on pricing?"),
            (
                "What did Dana think of the pilot?",
                "What did Dana the pilot?",
            ),
            (
                "what has the customer said about security",
                "what has the customer security",
            ),
            (
                "Could you give me a short summary of the discussion on security?",
                "of the on security?",
            ),
            ("Discussion of the budget", "of the budget"),
            ("Summary", ""),
        ] {
            assert_eq!(subject_of_discussion(query).as_deref(), Some(subject));
        }
        for query in [
            "",
            "Who has the final say on the purchase at Briarwood?",
            "What discount did we offer Halden Freight?",
            "When do the board members approve the money?",
            "price list",
            "Who discussed the price?",
            "Who asked for an executive summary?",
            "executive summary template",
            "What legal opinion do we have on conversation intelligence?",
            "Which point is the main one?",
            "about thinking",
        ] {
            assert_eq!(subject_of_discussion(query), None, "{query}");
        }
    }
}
