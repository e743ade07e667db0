//! Weighing: what the evidence says against the claims of an answer, and whether any of them is left.

use super::answers::{Abstention, Answer, Claim, Objection, Standing};
use super::contradiction::{Claimed, Order, Statement, Statements};
use super::evidence::Evidence;
use super::sentence_index::index_sentences;

/// The most contradictions of one claim that are shown.
const OBJECTIONS_MAX: usize = 2;

/// Shows what contradicts an answer beside it; without an answer if then no claim stands.
///
/// Confidence is lessened by the share of claims that are disputed.
pub fn weigh_answer(
    answer: Answer,
    question: &str,
    evidence: &[Evidence],
) -> Result<Answer, Abstention> {
    let claims = weigh_claims(answer.claims, question, evidence);
    let count = |standing: Standing| {
        let claims = claims.iter().filter(|claim| claim.standing() == standing);
        claims.count()
    };
    if count(Standing::Holds) == 0 {
        return Err(Abstention::Conflicting(claims));
    }
    let disputed_share = count(Standing::Disputed) as f32 / claims.len() as f32;
    Ok(Answer {
        confidence: answer.confidence * (1.0 - disputed_share),
        claims,
        ..answer
    })
}

/// Puts what contradicts a claim beside it, in the order of time; claims without contradiction stay as they are.
///
/// The first claims of more have the first of what those have.
pub fn weigh_claims(claims: Vec<Claim>, question: &str, evidence: &[Evidence]) -> Vec<Claim> {
    let index = index_sentences(evidence);
    let statements = Statements::new(question, &index);
    let mut weighed: Vec<Claim> = Vec::new();
    for mut claim in claims {
        let claimed = Claimed::read(&claim.text);
        let mut disputed = None;
        let mut group: Vec<(&Statement<'_, '_>, Claim)> = Vec::new();
        for statement in statements.cited(&claim) {
            let mut against = statements.against_claim(&claimed, statement);
            against.truncate(OBJECTIONS_MAX);
            if !against.is_empty() {
                disputed.get_or_insert(statement);
            }
            claim.against.extend(objections(statement, &against));
            group.extend(
                against
                    .iter()
                    .map(|(other, _)| (*other, stated(&statements, other))),
            );
        }
        match disputed {
            Some(statement) => group.push((statement, claim)),
            None => {
                weighed.push(claim);
                continue;
            }
        }
        group.sort_by(|(one, _), (two, _)| one.in_time(two));
        for (_, claim) in group {
            // A claim that nothing is said against may say another thing of the same sentence.
            let is_shown = |shown: &Claim| !shown.against.is_empty() && shown.rests_on_same(&claim);
            if !weighed.iter().any(is_shown) {
                weighed.push(claim);
            }
        }
    }
    weighed
}

/// A statement of the evidence as a claim.
fn stated(statements: &Statements<'_, '_>, statement: &Statement<'_, '_>) -> Claim {
    let sentence = statement.sentence;
    let mut against = statements.against(statement);
    against.truncate(OBJECTIONS_MAX);
    Claim {
        against: objections(statement, &against),
        ..Claim::new(sentence.text().to_owned(), vec![sentence.cite(1.0)])
    }
}

fn objections(
    statement: &Statement<'_, '_>,
    against: &[(&Statement<'_, '_>, Order)],
) -> Vec<Objection> {
    let objection = |(other, order): &(&Statement<'_, '_>, Order)| Objection {
        disputed: statement.sentence.cite(1.0),
        citation: other.sentence.cite(1.0),
        order: *order,
    };
    against.iter().map(objection).collect()
}

#[cfg(test)]
#[path = "weighing_tests.rs"]
mod tests;
