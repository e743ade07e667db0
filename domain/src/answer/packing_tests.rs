use super::{PromptRoom, countable_texts, pack_evidence};
use crate::answer::{Evidence, EvidenceSegment, build_prompt};
use crate::prompt_template::{PromptTemplate, Task};

fn evidence(number: u32, interaction_id: i64, day: i64, contents: &[(i64, &str)]) -> Evidence {
    let segment = |(segment_id, content): &(i64, &str)| EvidenceSegment {
        segment_id: *segment_id,
        speaker: Some("Ann".to_owned()),
        start_ms: None,
        end_ms: None,
        start_char: *segment_id as u32,
        end_char: 0,
        content: (*content).to_owned(),
    };
    Evidence {
        number,
        interaction_id,
        account_id: None,
        opportunity_id: None,
        segments: contents.iter().map(segment).collect(),
        occurred_on: format!("2026-04-{day:02}"),
        occurred_ms: day,
        is_summary: false,
        title: "call with Acme".to_owned(),
    }
}

fn template() -> PromptTemplate {
    PromptTemplate::built_in(Task::Insight)
}

/// Room for so many words of evidence; a word is a token here.
fn room(question: &str, evidence: &[Evidence], words: u32) -> PromptRoom {
    let texts = countable_texts(&template(), question, evidence);
    let count = |text: &String| text.split_whitespace().count() as u32;
    let token_counts: Vec<u32> = texts.iter().map(count).collect();
    PromptRoom {
        tokens_max: token_counts[0] + words,
        token_counts,
    }
}

fn shown(packed: &[Evidence]) -> Vec<(u32, Vec<&str>)> {
    let contents = |item: &'_ Evidence| item.number;
    packed
        .iter()
        .map(|item| {
            let segments = item.segments.iter();
            (
                contents(item),
                segments.map(|segment| segment.content.as_str()).collect(),
            )
        })
        .collect()
}

const QUESTION: &str = "What is the price of the licence?";

/// Goal: what is shown stands in the order of time, and nothing twice.
#[test]
fn all_is_shown_once() {
    let evidence = [
        evidence(
            1,
            7,
            9,
            &[(
                71,
                "Good morning to the teams in Ashgrove. The licence price is 45,000 euros.",
            )],
        ),
        evidence(
            2,
            5,
            2,
            &[(51, "The licence price is 40,000 euros a year.")],
        ),
        evidence(
            3,
            7,
            9,
            &[
                (71, "Good morning to the teams in Ashgrove."),
                (73, "We sign the contract in May in Ashgrove."),
            ],
        ),
        evidence(4, 8, 10, &[(81, "the licence price is 45,000 euros")]),
    ];
    let room = room(QUESTION, &evidence, 500);
    assert!(room.holds_all());
    assert_eq!(
        shown(&pack_evidence(QUESTION, &evidence, &[], &room)),
        [
            (2, vec!["The licence price is 40,000 euros a year."]),
            (1, vec!["Good morning to the teams in Ashgrove."]),
            (3, vec!["We sign the contract in May in Ashgrove."]),
            (4, vec!["the licence price is 45,000 euros"]),
        ]
    );
}

/// Goal: where there is little room whole sentences that are of use are shown, from several conversations.
#[test]
fn what_is_of_use_comes_first() {
    let long = "The price of the licence is 45,000 euros. We went to the lake with the children on Sunday afternoon. \
                The licence price holds until June.";
    let evidence = [
        evidence(1, 7, 9, &[(71, long)]),
        evidence(
            2,
            5,
            2,
            &[
                (51, "They called the licence price too high."),
                (52, "The weather in the north was terrible again."),
            ],
        ),
    ];
    let packed = pack_evidence(QUESTION, &evidence, &[], &room(QUESTION, &evidence, 60));
    assert_eq!(
        shown(&packed),
        [
            (2, vec!["They called the licence price too high."]),
            (
                1,
                vec![
                    "The price of the licence is 45,000 euros. … The licence price holds until June."
                ]
            ),
        ]
    );
    assert!(pack_evidence(QUESTION, &evidence, &[], &room(QUESTION, &evidence, 5)).is_empty());
}

/// Goal: interactions of which no sentence is of use are there with one of their summary, where there are summaries.
#[test]
fn summaries_stand_for_the_others() {
    let mut evidence = vec![
        evidence(
            1,
            7,
            9,
            &[(
                71,
                "The price of the licence is 45,000 euros. The licence price holds until June. The price of a licence is no secret.",
            )],
        ),
        evidence(
            2,
            5,
            2,
            &[(
                51,
                "They want the price in writing by the end of the coming week at the latest.",
            )],
        ),
    ];
    let summary = |number, interaction_id, segment_id, content| Evidence {
        is_summary: true,
        ..self::evidence(number, interaction_id, 2, &[(segment_id, content)])
    };
    let summaries = [
        summary(3, 7, 72, "Price and budget for the depots were discussed."),
        summary(4, 5, 52, "Procurement wants a pilot with two depots first."),
    ];
    let numbers =
        |packed: Vec<Evidence>| -> Vec<u32> { packed.iter().map(|item| item.number).collect() };
    let room = |evidence: &[Evidence]| room(QUESTION, evidence, 60);
    let without = pack_evidence(QUESTION, &evidence, &[], &room(&evidence));
    assert_eq!(numbers(without), [1]);
    evidence.extend(summaries);
    let with = pack_evidence(QUESTION, &evidence, &[], &room(&evidence));
    assert_eq!(numbers(with), [4, 1]);
}

/// Goal: whatever the room, the prompt keeps within it.
#[test]
fn prompts_fit() {
    let lines: Vec<(i64, String)> = (0..40)
        .map(|at| {
            (
                at,
                format!("Point {at} about the price and licence number {at} of the offer."),
            )
        })
        .collect();
    let lines: Vec<(i64, &str)> = lines
        .iter()
        .map(|(at, line)| (*at, line.as_str()))
        .collect();
    let evidence: Vec<Evidence> = lines
        .chunks(4)
        .zip(1..)
        .map(|(lines, number)| evidence(number, i64::from(number % 5), i64::from(number), lines))
        .collect();
    for words in (0..800).step_by(40) {
        let room = room(QUESTION, &evidence, words);
        let packed = pack_evidence(QUESTION, &evidence, &[], &room);
        let prompt = build_prompt(&template(), QUESTION, &packed);
        let length = format!("{}\n{}", prompt.system, prompt.user)
            .split_whitespace()
            .count();
        assert!(
            length <= room.tokens_max as usize,
            "{length} of {}",
            room.tokens_max
        );
        let whole = evidence.iter().flat_map(|item| &item.segments);
        let mut cut = packed.iter().flat_map(|item| &item.segments);
        assert!(cut.all(|shown| {
            whole
                .clone()
                .any(|segment| segment.content == shown.content)
        }));
    }
}

/// Goal: who says one thing, then another, then the first again is shown with that at last; what is said of another
/// account stands beside it.
#[test]
fn the_last_word_stands() {
    let (low, high) = (
        "The licence price is 40,000 euros.",
        "The licence price is 45,000 euros.",
    );
    let mut evidence = [
        evidence(1, 5, 2, &[(51, low)]),
        evidence(2, 6, 3, &[(61, high)]),
        evidence(3, 7, 4, &[(71, low)]),
        evidence(4, 8, 5, &[(81, low)]),
    ];
    evidence[3].account_id = Some(2);
    let room = room(QUESTION, &evidence, 500);
    assert_eq!(
        shown(&pack_evidence(QUESTION, &evidence, &[], &room)),
        [(2, vec![high]), (3, vec![low]), (4, vec![low])]
    );
}

/// Goal: counts from outside may be as large as they like; what has too many tokens is not shown.
#[test]
fn large_counts_do_no_harm() {
    let evidence = [evidence(
        1,
        5,
        2,
        &[(51, "The licence price is 40,000 euros.")],
    )];
    let room = PromptRoom {
        tokens_max: u32::MAX - 1,
        token_counts: vec![0, u32::MAX, u32::MAX],
    };
    assert!(!room.holds_all());
    assert!(pack_evidence(QUESTION, &evidence, &[], &room).is_empty());
}
