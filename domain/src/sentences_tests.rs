use std::time::{Duration, Instant};

use super::sentence_ranges;

fn check(text: &str, sentences: &[&str]) {
    let found: Vec<&str> = sentence_ranges(text)
        .into_iter()
        .map(|range| &text[range])
        .collect();
    assert_eq!(found, sentences, "{text}");
}

/// Goal: sentences end where a reader says they do.
#[test]
fn sentences_of_prose() {
    check("One. Two! Three? Four", &["One.", "Two!", "Three?", "Four"]);
    check(
        " He said \"yes.\" Then left. ",
        &["He said \"yes.\"", "Then left."],
    );
    check(
        "Mr. Smith of Acme Inc. agreed. Good.",
        &["Mr. Smith of Acme Inc. agreed.", "Good."],
    );
    check(
        "Tools, e.g. Slack, cost 1.5 euros. Fine.",
        &["Tools, e.g. Slack, cost 1.5 euros.", "Fine."],
    );
    check(
        "J. Smith met T. Jones. Then I. We left.",
        &["J. Smith met T. Jones.", "Then I.", "We left."],
    );
    check("No. We can't.", &["No.", "We can't."]);
    check("See No. 5 there. Ok.", &["See No. 5 there.", "Ok."]);
    check(
        "Well... maybe. Really?! Yes…",
        &["Well... maybe.", "Really?!", "Yes…"],
    );
    check("see acme.com/a.b now", &["see acme.com/a.b now"]);
    check("東京です。はい。", &["東京です。", "はい。"]);
    check("", &[]);
    check(" \n ", &[]);
    check("...", &["..."]);
}

/// Goal: no text makes splitting slower than its length (UAX 29 as implemented is quadratic here).
#[test]
fn hostile_texts_take_linear_time() {
    for unit in [".)", ")", ". ", " ", ".", "a. ", "1", "Mr. ", "。"] {
        let text = format!(".{}", unit.repeat(4 * 1024 * 1024 / unit.len()));
        let start = Instant::now();
        let _ = sentence_ranges(&text);
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{unit:?}: {:?}",
            start.elapsed()
        );
    }
}
