//! Questions for what was said on a subject, which passages answer, rather than for a fact, which a sentence does.

/// Beginnings of words that ask for a discussion, whatever stands around them.
const STEMS: [&str; 3] = ["summar", "discuss", "debat"];
const WORDS: [&str; 9] = [
    "conversation",
    "conversations",
    "opinion",
    "opinions",
    "overview",
    "recap",
    "recaps",
    "takeaway",
    "takeaways",
];
/// Words that do so before the second: "talk about", "think of", "key points".
const PAIRS: [(&[&str], &[&str]); 4] = [
    (&["talk", "talks", "talked", "talking"], &["about"]),
    (&["say", "says", "said"], &["about"]),
    (
        &["think", "thinks", "thought", "thinking"],
        &["about", "of"],
    ),
    (&["main", "key"], &["points"]),
];

/// Whether an English query asks for a discussion.
pub fn asks_for_discussion(query: &str) -> bool {
    let lower = query.to_lowercase();
    let words: Vec<&str> = lower
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let is_one =
        |word: &&str| WORDS.contains(word) || STEMS.iter().any(|stem| word.starts_with(stem));
    let are_two = |pair: &[&str]| {
        PAIRS
            .iter()
            .any(|(first, second)| first.contains(&pair[0]) && second.contains(&pair[1]))
    };
    words.iter().any(is_one) || words.windows(2).any(are_two)
}

#[cfg(test)]
mod tests {
    use super::asks_for_discussion;

    /// Goal: discussions are told from facts, also where words look alike.
    #[test]
    fn discussions_and_facts() {
        for query in [
            "Summarise the last call with Halden.",
            "What did we DISCUSS on pricing?",
            "What did Dana think of the pilot?",
            "what has the customer said about security",
            "Key points of the demo",
        ] {
            assert!(asks_for_discussion(query), "{query}");
        }
        for query in [
            "",
            "Who has the final say on the purchase at Briarwood?",
            "What discount did we offer Halden Freight?",
            "When do the board members approve the money?",
            "price list",
            "Which point is the main one?",
            "about thinking",
        ] {
            assert!(!asks_for_discussion(query), "{query}");
        }
    }
}
