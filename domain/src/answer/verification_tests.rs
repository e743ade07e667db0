#![allow(clippy::unwrap_used)]

use super::{judge_answer, settled_claims, settled_sentences, verify_answer};
use crate::answer::{Abstention, AnswerMethod, Evidence, EvidenceSegment};

const QUESTION: &str = "What discount does Acme get?";

fn evidence() -> Vec<Evidence> {
    let item = |number: u32, utterances: &[(&str, &str)]| Evidence {
        number,
        interaction_id: i64::from(number) * 10,
        segments: utterances
            .iter()
            .zip(1_i64..)
            .map(|((speaker, content), at)| EvidenceSegment {
                segment_id: i64::from(number) * 100 + at,
                speaker: Some((*speaker).to_owned()),
                start_ms: None,
                end_ms: None,
                start_char: 0,
                end_char: 0,
                content: (*content).to_owned(),
            })
            .collect(),
        account_id: None,
        opportunity_id: None,
        occurred_on: "2026-04-02".to_owned(),
        occurred_ms: 0,
        is_summary: false,
        title: "call \"Pricing review\" with Acme".to_owned(),
    };
    vec![
        item(
            1,
            &[
                (
                    "Alice",
                    "Thanks. We can offer a 15% discount on the yearly plan. Shipping is extra.",
                ),
                ("Bob", "What about the setup fee?"),
                ("Alice", "It is $1,200, but we waive it."),
            ],
        ),
        item(
            2,
            &[
                ("Bob", "We did not agree to the security review."),
                (
                    "Carol",
                    "The yearly plan has a discount of 15 percent, I was told.",
                ),
            ],
        ),
    ]
}

/// The kept claims, each with `(evidence number, quote)`.
fn check(generated: &str, expected: &[(&str, &[(u32, &str)])]) {
    let evidence = evidence();
    let claims = verify_answer(generated, QUESTION, &evidence);
    let found: Vec<(&str, Vec<(u32, &str)>)> = claims
        .iter()
        .map(|claim| {
            let cited = claim.citations.iter().map(|c| (c.number, c.quote.as_str()));
            (claim.text.as_str(), cited.collect())
        })
        .collect();
    let expected: Vec<(&str, Vec<(u32, &str)>)> = expected
        .iter()
        .map(|(text, cited)| (*text, cited.to_vec()))
        .collect();
    assert_eq!(found, expected, "{generated}");
}

const OFFER: &str = "We can offer a 15% discount on the yearly plan.";

/// Goal: what the evidence says is kept, with the exact sentence as its quote.
#[test]
fn supported_claims_are_kept() {
    check(
        "Alice offered a 15% discount on the yearly plan [1].",
        &[(
            "Alice offered a 15% discount on the yearly plan.",
            &[(1, OFFER)],
        )],
    );
    check(
        "Acme gets 15 percent discount on the yearly plan.",
        &[(
            "Acme gets 15 percent discount on the yearly plan.",
            &[(1, OFFER)],
        )],
    );
    check(
        "Bob did not agree to the security review.",
        &[(
            "Bob did not agree to the security review.",
            &[(2, "We did not agree to the security review.")],
        )],
    );
}

/// Goal: the model's own citation is preferred when it holds, and replaced when it does not.
#[test]
fn cited_number_is_verified() {
    let claim = "The yearly plan has a 15% discount";
    let text = "The yearly plan has a 15% discount.";
    check(
        &format!("{claim} [2]."),
        &[(
            text,
            &[(
                2,
                "The yearly plan has a discount of 15 percent, I was told.",
            )],
        )],
    );
    check(&format!("{claim} [7]."), &[(text, &[(1, OFFER)])]);
}

/// Goal: two adjacent sentences may support a claim together.
#[test]
fn adjacent_sentences_support() {
    check(
        "The setup fee of 1200 dollars is waived [1].",
        &[(
            "The setup fee of 1200 dollars is waived.",
            &[
                (1, "What about the setup fee?"),
                (1, "It is $1,200, but we waive it."),
            ],
        )],
    );
}

/// Goal: wrong numbers, foreign names, denials, questions and echoes of the question are no claims.
#[test]
fn unsupported_claims_are_dropped() {
    for generated in [
        "Alice offered a 20% discount on the yearly plan [1].",
        "Alice offered a $15 discount on the yearly plan [1].",
        "Dave offered a 15% discount on the yearly plan [1].",
        "Alice did not offer a 15% discount on the yearly plan [1].",
        "Bob agreed to the security review [2].",
        "Did Alice offer a 15% discount on the yearly plan?",
        "Acme gets a discount.",
        // The day of the interaction stands in the evidence's title line; nobody said it.
        "The 15% discount on the yearly plan is valid until 2026-04-02.",
        // Only the speaker's name would support it.
        "Alice: The answer is.",
        "Alice: The answer is: [1]",
        "The weather is nice.",
        "The evidence does not say.",
        "Yes.",
        "",
    ] {
        check(generated, &[]);
    }
}

/// Goal: quotes are the exact characters of their segment.
#[test]
fn quotes_are_exact() {
    let evidence = evidence();
    let claims = verify_answer("A 15% discount on the yearly plan.", QUESTION, &evidence);
    let citation = &claims[0].citations[0];
    let segment = &evidence[0].segments[0];
    let cut: String = segment
        .content
        .chars()
        .skip(citation.quote_start as usize)
        .take((citation.quote_end - citation.quote_start) as usize)
        .collect();
    assert_eq!(
        (citation.segment_id, cut),
        (segment.segment_id, citation.quote.clone())
    );
}

/// Goal: confidence is the supported share times similarity; nothing supported is an abstention.
#[test]
fn judged_answers() {
    let evidence = evidence();
    let generated = "We can offer a 15% discount on the yearly plan [1]. Dave is happy [1].";
    let answer = judge_answer(generated, QUESTION, &evidence).unwrap();
    assert_eq!(
        (answer.method, answer.claims.len()),
        (AnswerMethod::Generated, 1)
    );
    assert!((answer.confidence - 0.5).abs() < 1e-6);
    assert_eq!(
        judge_answer("Dave is happy.", QUESTION, &evidence),
        Err(Abstention::Unsupported)
    );
    assert_eq!(
        judge_answer(generated, QUESTION, &[]),
        Err(Abstention::NoMatch)
    );
    assert_eq!(Abstention::NoMatch.name(), "no_match");
}

/// Goal: what is said while a text is written is the beginning of what is said of the whole, and is said before its end.
#[test]
fn settled_claims_stay() {
    let text = "The yearly plan has a 15% discount. [1] They did not agree to the security review. [2] Shipping is extra. \
                Pigs fly. The yearly plan has a 15% discount.";
    let whole = verify_answer(text, QUESTION, &evidence());
    assert!(whole.len() >= 3, "{whole:?}");
    let (mut claims, mut early) = (0, 0);
    for (end, _) in text.char_indices() {
        let settled = settled_claims(&text[..end], QUESTION, &evidence());
        assert!(settled.len() >= claims, "{end}");
        assert_eq!(settled[..], whole[..settled.len()], "{end}");
        assert!(settled_sentences(&text[..end]) >= settled.len());
        claims = settled.len();
        early = early.max(if end < text.len() / 2 { claims } else { 0 });
    }
    assert!(early >= 1, "nothing was said before half of it was written");
}
