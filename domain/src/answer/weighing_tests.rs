#![allow(clippy::unwrap_used)]

use super::{weigh_answer, weigh_claims};
use crate::answer::{
    Abstention, Answer, Evidence, EvidenceSegment, Order, Standing, extract_answer, settled_claims,
    verify_answer,
};

/// What was said on a day of one month, by whom; each in an interaction of its own, unless the day is the same.
fn said(lines: &[(i64, &str, &str)]) -> Vec<Evidence> {
    let mut evidence: Vec<Evidence> = Vec::new();
    for (number, (day, speaker, content)) in (1..).zip(lines) {
        let segment = EvidenceSegment {
            segment_id: number,
            speaker: Some((*speaker).to_owned()),
            start_ms: None,
            end_ms: None,
            start_char: 100 * number as u32,
            end_char: 0,
            content: (*content).to_owned(),
        };
        match evidence.iter_mut().find(|item| item.interaction_id == *day) {
            Some(item) => item.segments.push(segment),
            None => evidence.push(Evidence {
                number: number as u32,
                interaction_id: *day,
                account_id: Some(1),
                opportunity_id: None,
                segments: vec![segment],
                occurred_on: format!("2026-04-{day:02}"),
                occurred_ms: 86_400_000 * day,
                is_summary: false,
                title: "call with Acme".to_owned(),
            }),
        }
    }
    evidence
}

fn answer(question: &str, evidence: &[Evidence]) -> Result<Answer, Abstention> {
    weigh_answer(
        extract_answer(question, evidence, &[]).unwrap(),
        question,
        evidence,
    )
}

fn standings(answer: &Answer) -> Vec<(&str, Standing)> {
    let claims = answer.claims.iter();
    claims
        .map(|claim| (claim.text.as_str(), claim.standing()))
        .collect()
}

/// Goal: what was said later goes before what was said earlier, and both are shown in the order of time.
#[test]
fn a_change_is_shown_in_time_order() {
    let evidence = said(&[
        (9, "Ann", "The price of the licence is now 45,000 euros."),
        (2, "Bob", "The price of the licence is 40,000 euros."),
    ]);
    let changed = answer("What is the price of the licence?", &evidence).unwrap();
    assert_eq!(
        standings(&changed),
        [
            (
                "The price of the licence is 40,000 euros.",
                Standing::Superseded
            ),
            (
                "The price of the licence is now 45,000 euros.",
                Standing::Holds
            ),
        ]
    );
    assert_eq!(changed.claims[1].against[0].order, Order::Earlier);
    assert_eq!(changed.claims[1].against[0].citation.segment_id, 2);
}

/// Goal: in one conversation the speaker's own correction decides, somebody else's word does not; then there is no
/// answer, and both are named.
#[test]
fn who_speaks_decides_within_a_conversation() {
    let question = "When is the renewal of the contract?";
    let (first, second) = (
        "The renewal of the contract is on March 3.",
        "Sorry, the renewal of the contract is on May 1.",
    );
    let corrected = answer(question, &said(&[(2, "Bob", first), (2, "Bob", second)])).unwrap();
    assert_eq!(
        standings(&corrected),
        [(first, Standing::Superseded), (second, Standing::Holds)]
    );
    match answer(question, &said(&[(2, "Bob", first), (2, "Ann", second)])) {
        Err(Abstention::Conflicting(claims)) => {
            let texts: Vec<&str> = claims.iter().map(|claim| claim.text.as_str()).collect();
            assert_eq!(texts, [first, second]);
            assert!(
                claims
                    .iter()
                    .all(|claim| claim.standing() == Standing::Disputed)
            );
        }
        other => panic!("{other:?}"),
    }
}

/// Goal: a third, later statement decides between two; what else there is to say makes it an answer too.
#[test]
fn what_stands_is_said() {
    let (low, high) = (
        "The setup fee is 1,200 euros.",
        "The setup fee is 1,500 euros.",
    );
    let decided = said(&[
        (2, "Bob", low),
        (2, "Ann", high),
        (5, "Ann", "The setup fee is 1500 euros now."),
    ]);
    let decided = answer("How much is the setup fee?", &decided).unwrap();
    assert_eq!(decided.claims[0].standing(), Standing::Superseded);
    assert!(
        decided.claims[1..]
            .iter()
            .all(|claim| claim.standing() == Standing::Holds)
    );
    let besides = said(&[
        (2, "Bob", low),
        (2, "Ann", high),
        (3, "Ann", "The setup fee for the second year falls away."),
    ]);
    let besides = answer("How much is the setup fee?", &besides).unwrap();
    assert_eq!(besides.claims[2].standing(), Standing::Holds);
    assert!(besides.confidence < 0.5);
}

/// Goal: who denies what another states contradicts him.
#[test]
fn denials_are_found() {
    let evidence = said(&[
        (2, "Bob", "Procurement has signed the contract."),
        (2, "Ann", "Procurement has not signed the contract yet."),
    ]);
    let conflicting = answer("Has procurement signed the contract?", &evidence);
    assert!(matches!(conflicting, Err(Abstention::Conflicting(claims)) if claims.len() == 2));
}

/// Goal: sentences about other things, other people, other accounts or what might be are no contradictions.
#[test]
fn what_is_about_something_else_is_none() {
    for (one, two) in [
        (
            "The price of the pilot is 10,000 euros.",
            "The price of the licence is 40,000 euros.",
        ),
        (
            "The first depot has 40 trucks.",
            "The second depot has 30 trucks.",
        ),
        (
            "The price is 40,000 euros.",
            "If we wait, the price is 45,000 euros.",
        ),
        (
            "I need 40 seats at this price.",
            "I need 60 seats at this price.",
        ),
        ("The price is 40,000 euros.", "Is the price 45,000 euros?"),
        (
            "The price is 40,000 euros per year.",
            "The price is 3,500 euros per month.",
        ),
    ] {
        let evidence = said(&[(2, "Bob", one), (2, "Ann", two)]);
        let question = "What is the price at the depot, how many trucks and seats?";
        let claims = extract_answer(question, &evidence, &[]).unwrap().claims;
        assert_eq!(
            weigh_claims(claims.clone(), question, &evidence),
            claims,
            "{one} / {two}"
        );
    }
    let mut evidence = said(&[
        (2, "Bob", "The price is 40,000."),
        (3, "Ann", "The price is 45,000."),
    ]);
    let is_contradicted = |evidence: &[Evidence]| {
        let claims = answer("What is the price?", evidence).unwrap().claims;
        claims.iter().any(|claim| !claim.against.is_empty())
    };
    evidence[0].opportunity_id = Some(1);
    assert!(is_contradicted(&evidence));
    evidence[1].opportunity_id = Some(2);
    assert!(!is_contradicted(&evidence));
    evidence[1].opportunity_id = None;
    evidence[1].account_id = Some(2);
    assert!(!is_contradicted(&evidence));
}

/// Goal: what a text that is still being written gives is the beginning of what the whole gives.
#[test]
fn weighed_claims_only_grow() {
    let evidence = said(&[
        (2, "Bob", "The setup fee is 1,200 euros."),
        (5, "Ann", "The setup fee is 1,500 euros."),
        (6, "Ann", "Delivery takes six weeks."),
    ]);
    let question = "What are the setup fee and the delivery time?";
    let text = "The setup fee is 1,500 euros. [2] The setup fee is 1,200 euros. [1] Delivery takes six weeks. [3]";
    let whole = weigh_claims(
        verify_answer(text, question, &evidence),
        question,
        &evidence,
    );
    assert_eq!(whole.len(), 3);
    for end in 0..text.len() {
        let settled = weigh_claims(
            settled_claims(&text[..end], question, &evidence),
            question,
            &evidence,
        );
        assert_eq!(settled, whole[..settled.len()]);
    }
}

/// Goal: only what a claim itself states is contradicted, not what else its sentence says; the claim that does is named
/// with the sentence that is contradicted.
#[test]
fn the_claim_counts() {
    let evidence = said(&[
        (
            2,
            "Bob",
            "Delivery takes six weeks. The licence price is 40,000 euros for 12 depots.",
        ),
        (5, "Bob", "The licence price is 45,000 euros for 12 depots."),
    ]);
    let question = "How many depots has the licence, at what price, and how long takes delivery?";
    let weigh = |text: &str| {
        let claims = verify_answer(text, question, &evidence);
        weigh_claims(claims, question, &evidence)
    };
    let depots = "The licence is for 12 depots.";
    let undisputed = weigh("The licence is for 12 depots. [1]");
    assert_eq!(undisputed.len(), 1);
    assert!(undisputed[0].against.is_empty());
    let price = "The licence price is 40,000 euros.";
    for text in [
        format!("{depots} [1] {price} [1]"),
        format!("{price} [1] {depots} [1]"),
    ] {
        let both = weigh(&text);
        assert_eq!(both.len(), 3, "{both:?}");
        for claim in both {
            assert_eq!(claim.against.is_empty(), claim.text == depots);
        }
    }
    let of_two =
        weigh("Delivery takes six weeks, the licence price is 40,000 euros for 12 depots. [1]");
    assert_eq!(
        of_two[0].citations[0].quote,
        evidence[0].segments[0].content
    );
    let against = &of_two[0].against[0];
    let price = "The licence price is 40,000 euros for 12 depots.";
    assert_eq!(against.disputed.quote, price);
    let back = &of_two[1].against[0];
    assert!(back.citation.is_place_of(&against.disputed));
    assert!(back.disputed.is_place_of(&against.citation));
}
