use super::{STATEMENTS_MAX, Statements};
use crate::answer::sentence_index::index_sentences;
use crate::answer::{Evidence, EvidenceSegment};

const QUESTION: &str = "What are the licence price, discount, invoice, contract, delivery and renewal, what do we pay and sign?";

/// What somebody said in an interaction with Acme, which is on the day of its number.
fn said(interaction_id: i64, speaker: Option<&str>, content: &str) -> Evidence {
    Evidence {
        number: interaction_id as u32,
        interaction_id,
        account_id: Some(1),
        opportunity_id: None,
        segments: vec![EvidenceSegment {
            segment_id: interaction_id,
            speaker: speaker.map(str::to_owned),
            start_ms: None,
            end_ms: None,
            start_char: 0,
            end_char: 0,
            content: content.to_owned(),
        }],
        occurred_on: format!("2026-04-{interaction_id:02}"),
        occurred_ms: interaction_id,
        is_summary: false,
        title: "call \"Pricing\" with Acme".to_owned(),
    }
}

fn contradict(one: Evidence, two: Evidence) -> bool {
    let evidence = [one, two];
    let index = index_sentences(&evidence);
    let statements = Statements::new(QUESTION, &index);
    let mut all = statements.statements.iter();
    all.any(|statement| !statements.against(statement).is_empty())
}

/// Whether what Bob said twice contradicts itself.
fn check(one: &str, two: &str, expected: bool) {
    let found = contradict(said(1, Some("Bob"), one), said(2, Some("Bob"), two));
    assert_eq!(found, expected, "{one} / {two}");
}

/// Goal: one word more makes it the price of something else, such as a competitor's or that of a pilot.
#[test]
fn another_word_is_another_subject() {
    let price = "The licence price is 40,000 euros.";
    check(price, "The licence price is 38,000 euros now.", true);
    check(price, "Acme: licence price 38,000 euros.", false);
    check(
        price,
        "Globex quoted a licence price of 38,000 euros.",
        false,
    );
    check(price, "They quoted a licence price of 38,000 euros.", false);
    check(
        price,
        "The licence price for the pilot is 10,000 euros.",
        false,
    );
    check(
        price,
        "The list price of the licence is 50,000 euros.",
        false,
    );
    check(
        "Pricing of the licence is 40,000 euros.",
        "The licence is 38,000 euros.",
        false,
    );
}

/// Goal: how it once was is no news, whenever it is told; that it was changed is.
#[test]
fn the_past_is_no_news() {
    let price = "The licence price is 45,000 euros.";
    for past in [
        "Before that the licence price was 36,000 euros.",
        "Originally the licence price is 36,000 euros.",
        "The licence price was 36,000 euros.",
    ] {
        check(price, past, false);
    }
    check(price, "The licence price was set to 36,000 euros.", true);
}

/// Goal: what is denied of one day or within a limit denies nothing else; two denials never contradict each other.
#[test]
fn denials_of_a_part_are_none() {
    check(
        "The contract is signed.",
        "The contract is not signed.",
        true,
    );
    for (one, two) in [
        ("We will not sign before May.", "We will sign in May."),
        (
            "The renewal is not on March 3.",
            "The renewal is not on May 1.",
        ),
        ("The renewal is not on March 3.", "The renewal is on May 1."),
        ("Delivery is by June 30.", "Delivery is on May 12."),
        ("We pay up to $45,000.", "We pay $40,000."),
        (
            "The contract renewal is not signed without a discount.",
            "The contract renewal is signed at a discount.",
        ),
        (
            "The contract invoice 10234 is paid.",
            "The contract invoice 10236 is not paid.",
        ),
        (
            "The contract is not signed.",
            "The contract will be signed.",
        ),
    ] {
        check(one, two, false);
    }
}

/// Goal: nobody knows of one account that two interactions without any are of it; one interaction is about one.
#[test]
fn what_has_no_account_is_apart() {
    let prices = ["The price is 40,000 euros.", "The price is 45,000 euros."];
    let said = |interaction_id, content| Evidence {
        account_id: None,
        ..said(interaction_id, Some("Bob"), content)
    };
    assert!(!contradict(said(1, prices[0]), said(2, prices[1])));
    assert!(contradict(said(1, &prices.join(" ")), said(2, "Hello.")));
}

/// Goal: "we" is another side with another speaker; two whose names nobody knows may be two.
#[test]
fn we_is_who_speaks() {
    let (one, two) = ("We pay 40,000 euros.", "We pay 45,000 euros.");
    let found = |first, second| contradict(said(1, first, one), said(2, second, two));
    assert!(found(Some("Bob"), Some("Bob")));
    assert!(!found(Some("Bob"), Some("Ann")));
    assert!(!found(Some("Bob"), None));
    assert!(!found(None, None));
    let our = |speaker, content| said(1, speaker, content);
    assert!(!contradict(
        our(Some("Bob"), "Our discount is 10%."),
        said(2, Some("Ann"), "Our discount is 15%.")
    ));
}

/// Goal: however much evidence there is, so many statements are compared, those of the best evidence.
#[test]
fn statements_are_bounded() {
    let mut evidence = said(1, Some("Bob"), "The price is 40,000 euros. ");
    let segment = &mut evidence.segments[0];
    segment.content = segment.content.repeat(STATEMENTS_MAX + 100);
    let evidence = [evidence];
    let index = index_sentences(&evidence);
    let statements = Statements::new(QUESTION, &index).statements;
    assert_eq!(statements.len(), STATEMENTS_MAX);
    assert_eq!(statements[0].sentence.bytes.start, 0);
}
