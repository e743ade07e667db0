#![allow(clippy::unwrap_used)]

use super::{extract_answer, is_related};
use crate::answer::{Abstention, AnswerMethod, Evidence, EvidenceSegment};

fn evidence(groups: &[&[&str]]) -> Vec<Evidence> {
    let segment = |content: &&str| EvidenceSegment {
        segment_id: 1,
        speaker: None,
        start_ms: None,
        end_ms: None,
        start_char: 0,
        end_char: 0,
        content: (*content).to_owned(),
    };
    let group = |(contents, number): (&&[&str], u32)| Evidence {
        number,
        interaction_id: i64::from(number),
        segments: contents.iter().map(segment).collect(),
        account_id: None,
        opportunity_id: None,
        occurred_on: "2026-04-02".to_owned(),
        occurred_ms: 0,
        is_summary: false,
        title: "call".to_owned(),
    };
    groups.iter().zip(1..).map(group).collect()
}

fn check(question: &str, groups: &[&[&str]], expected: Result<&[&str], Abstention>) {
    let found = extract_answer(question, &evidence(groups), &[]);
    let texts = found.map(|answer| -> Vec<String> {
        answer.claims.into_iter().map(|claim| claim.text).collect()
    });
    let expected = expected.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
    assert_eq!(texts, expected, "{question}");
}

/// Goal: the sentence that shares the rare words of the question is the answer.
#[test]
fn best_sentence_answers() {
    let call: &[&str] = &[
        "Hi all, thanks for joining the call today. The setup fee is 1200 euros for the first year.",
        "What is the delivery time?",
        "Delivery takes six weeks from the signed order.",
        "Right, delivery, yes.",
    ];
    check(
        "How much is the setup fee?",
        &[call],
        Ok(&["The setup fee is 1200 euros for the first year."]),
    );
    check(
        "How long does delivery take?",
        &[call],
        Ok(&["Delivery takes six weeks from the signed order."]),
    );
    check("Who likes football?", &[call], Err(Abstention::NoMatch));
    check("How much is the setup fee?", &[], Err(Abstention::NoMatch));
    check("", &[call], Err(Abstention::NoMatch));
}

/// Goal: an answer that does not repeat the words of the question before it is found.
#[test]
fn answer_after_question_is_found() {
    let call: &[&str] = &[
        "What discount can Acme get?",
        "We could go up to 15% this quarter.",
    ];
    check(
        "What discount does Acme get?",
        &[call],
        Ok(&["We could go up to 15% this quarter."]),
    );
}

/// Goal: words that only back-channels have are a match without an answer.
#[test]
fn back_channels_are_no_answer() {
    check(
        "What about delivery?",
        &[&["Right, delivery, yes."]],
        Err(Abstention::Unsupported),
    );
    check(
        "What about delivery?",
        &[&[
            "Right, delivery, yes.",
            "We go skiing in Tyrol with the family.",
        ]],
        Err(Abstention::Unsupported),
    );
}

/// Goal: near-equal sentences come in the order in which they were said, at most three, each once.
#[test]
fn several_sentences_in_order() {
    let line = |month: &str| format!("The {month} renewal price rises by ten dollars.");
    let (a, b, c, d) = (line("April"), line("May"), line("June"), line("July"));
    check(
        "renewal price",
        &[&[&a, &b], &[&a, &c], &[&d]],
        Ok(&[&a, &b, &c]),
    );
}

/// Goal: confidence stays within its cap and quotes are exact.
#[test]
fn confidence_and_quote() {
    let answer = extract_answer(
        "setup fee",
        &evidence(&[&["Ok. The setup fee is 1200 euros."]]),
        &[],
    )
    .unwrap();
    assert_eq!(answer.method, AnswerMethod::Extractive);
    assert_eq!(answer.confidence, 0.9);
    let citation = &answer.claims[0].citations[0];
    assert_eq!((citation.quote_start, citation.quote_end), (4, 32));
    assert_eq!(citation.quote, answer.claims[0].text);
}

/// Goal: evidence without a word of the question counts when it comes close in meaning, and only then.
#[test]
fn relation_by_word_or_by_meaning() {
    let evidence = evidence(&[&["The setup fee is 1200 euros.", "We meet on Monday."]]);
    for (question, similarities, related) in [
        ("What is the setup fee?", [0.0, 0.0], true),
        ("What does installation cost?", [0.5, 0.1], true),
        ("Zyxgrobl quuxwibble vornak?", [0.2, 0.1], false),
    ] {
        assert_eq!(is_related(question, &evidence, &similarities), related);
        let answer = extract_answer(question, &evidence, &similarities);
        assert_eq!(answer.is_ok(), related);
    }
}
