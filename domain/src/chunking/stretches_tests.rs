use super::split_sentences;
use crate::test_random::Random;

fn texts(stretches: &[&str]) -> Vec<String> {
    split_sentences(stretches)
        .iter()
        .map(|sentence| sentence.text(stretches))
        .collect()
}

/// Goal: a sentence goes on from one stretch to the next; abbreviations and small letters at the border are heeded.
#[test]
fn sentences_go_on_across_stretches() {
    let stretches = [
        "So the price. We could",
        "ask Dr.",
        "Mills",
        "about it. Then",
        "sign? Yes.",
    ];
    let sentences = split_sentences(&stretches);
    assert_eq!(
        texts(&stretches),
        [
            "So the price.",
            "We could ask Dr. Mills about it.",
            "Then sign?",
            "Yes."
        ]
    );
    assert_eq!(
        sentences[1].fragments,
        [(0, 14..22), (1, 0..7), (2, 0..5), (3, 0..9)]
    );
    assert_eq!(sentences[3].fragments, [(4, 6..10)]);
}

/// Goal: stretches without a full stop are one sentence, and those with nothing in them belong to none.
#[test]
fn stretches_without_sentences() {
    assert!(texts(&[]).is_empty());
    assert!(texts(&["", "  "]).is_empty());
    assert_eq!(texts(&["no stop", "", "here"]), ["no stop here"]);
    assert_eq!(
        split_sentences(&["no stop", "", "here"])[0].fragments.len(),
        2
    );
    assert_eq!(texts(&["Żaba. ", " Żółw."]), ["Żaba.", "Żółw."]);
}

/// Goal: whatever the stretches, their sentences are all that was said, in order, each fragment in one stretch.
#[test]
fn sentences_leave_nothing_out() {
    let mut random = Random::new(7);
    let mut random = |limit| random.below(limit);
    const WORDS: [&str; 8] = ["Mr.", "yes.", "No", "ż?", "3.5", " ", "end. Now", "…"];
    for _ in 0..2000 {
        let stretches: Vec<String> = (0..random(7))
            .map(|_| {
                let words: Vec<&str> = (0..random(6)).map(|_| WORDS[random(WORDS.len())]).collect();
                words.join(" ")
            })
            .collect();
        let stretches: Vec<&str> = stretches.iter().map(String::as_str).collect();
        let said: Vec<String> = texts(&stretches);
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        assert_eq!(words(&said.join(" ")), words(&stretches.join(" ")));
        assert!(
            split_sentences(&stretches)
                .iter()
                .all(|sentence| !sentence.fragments.is_empty())
        );
    }
}
