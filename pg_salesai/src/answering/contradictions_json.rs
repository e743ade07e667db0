//! What contradicts what in an answer, as `details` shows it.

use domain::answer::{Citation, Claim, Evidence, Order, Standing};
use serde_json::{Value, json};

use super::answer_json::find_segment;

/// Each contradiction once: two statements in the order of time, and whether it decides between them.
pub fn contradictions(claims: &[Claim], evidence: &[Evidence], citations: &[Value]) -> Vec<Value> {
    let mut pairs: Vec<(&Citation, &Citation, Order)> = Vec::new();
    for claim in claims {
        for against in &claim.against {
            let (own, other) = (&against.disputed, &against.citation);
            let (first, second) = match against.order {
                Order::Earlier => (other, own),
                Order::Later | Order::Undecided => (own, other),
            };
            let is_known = pairs.iter().any(|(one, two, _)| {
                one.is_place_of(first) && two.is_place_of(second)
                    || one.is_place_of(second) && two.is_place_of(first)
            });
            if !is_known {
                pairs.push((first, second, against.order));
            }
        }
    }
    let pairs = pairs.iter().map(|(first, second, order)| {
        json!({
            "decided_by": (*order != Order::Undecided).then_some("time"),
            "statements": [statement(first, evidence, citations), statement(second, evidence, citations)],
        })
    });
    pairs.collect()
}

/// What a reader is told about a claim that is contradicted.
pub fn remark(claim: &Claim, evidence: &[Evidence]) -> String {
    let day = claim
        .citations
        .first()
        .and_then(|citation| day(citation, evidence));
    match (claim.standing(), day) {
        (Standing::Holds, _) if claim.against.is_empty() => String::new(),
        (Standing::Holds, Some(day)) => format!(" ({day})"),
        (Standing::Superseded, Some(day)) => format!(" ({day}, changed later)"),
        _ => " (contradicted)".to_owned(),
    }
}

fn statement(citation: &Citation, evidence: &[Evidence], citations: &[Value]) -> Value {
    let cited = number_of(citation, citations);
    let segment = find_segment(evidence, citation.interaction_id, citation.segment_id);
    json!({
        "number": cited,
        "interaction_id": citation.interaction_id,
        "segment_id": citation.segment_id,
        "speaker": segment.and_then(|segment| segment.speaker.as_deref()),
        "occurred_on": day(citation, evidence),
        "quote": citation.quote,
    })
}

/// The number of the citation that has the sentence; one that has no more goes first.
fn number_of<'a>(citation: &Citation, citations: &'a [Value]) -> Option<&'a Value> {
    let has = |cited: &&Value| {
        let quote = cited["quote"].as_str();
        cited["segment_id"] == citation.segment_id
            && quote.is_some_and(|quote| quote.contains(&citation.quote))
    };
    let cited = citations.iter().filter(has);
    let shortest = cited.min_by_key(|cited| cited["quote"].as_str().map(str::len));
    shortest.map(|cited| &cited["number"])
}

fn day<'a>(citation: &Citation, evidence: &'a [Evidence]) -> Option<&'a str> {
    let item = evidence
        .iter()
        .find(|item| item.interaction_id == citation.interaction_id);
    item.map(|item| item.occurred_on.as_str())
}
