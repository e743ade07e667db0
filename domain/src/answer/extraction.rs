//! Extraction: an answer out of the evidence's own sentences, for when the model's are not borne out.

use std::collections::HashSet;

use super::answers::{Abstention, Answer, AnswerMethod, Claim};
use super::evidence::Evidence;
use super::scoring::{ScoredSentence, WordWeights, is_back_channel, score_sentences};
use super::sentence_index::index_sentences;

const SENTENCES_MAX: usize = 3;

/// A sentence below this share of the best score is left out.
const SCORE_SHARE_MIN: f32 = 0.6;

const CONFIDENCE_MAX: f32 = 0.9;

/// Evidence without a word of the question has to do with it from this similarity on, which a title of the same account
/// nearly makes.
const RELATED_SIMILARITY_MIN: f32 = 0.5;
/// A sentence of such evidence may answer from this one on.
const SIMILARITY_MIN: f32 = 0.45;

/// The evidence's sentences, as [`extract_answer`] wants their similarities: with its title in front, because a sentence
/// alone seldom says whom it is about.
pub fn evidence_sentences(evidence: &[Evidence]) -> Vec<String> {
    index_sentences(evidence)
        .iter()
        .flat_map(|group| &group.sentences)
        .map(|sentence| format!("{}\n{}", sentence.evidence.title, sentence.text()))
        .collect()
}

/// True when the evidence has to do with the question: it shares a content word, or comes close in meaning.
pub fn is_related(question: &str, evidence: &[Evidence], similarities: &[f32]) -> bool {
    !WordWeights::new(question, &index_sentences(evidence)).is_zero() || is_similar(similarities)
}

/// Gives the one to three sentences that fit the question best, in the order in which they were said.
///
/// `similarities` has the cosine of the question with each of [`evidence_sentences`]; empty: words decide alone.
/// Confidence is the weighted share of the question's words that the best sentence covers, or its
/// similarity if that is higher, at most 0.9.
pub fn extract_answer(
    question: &str,
    evidence: &[Evidence],
    similarities: &[f32],
) -> Result<Answer, Abstention> {
    let index = index_sentences(evidence);
    let weights = WordWeights::new(question, &index);
    if weights.is_zero() && !is_similar(similarities) {
        return Err(Abstention::NoMatch);
    }
    let mut candidates = score_sentences(question, &index, &weights, similarities);
    candidates.retain(could_answer);
    candidates.sort_by(|left, right| right.score.total_cmp(&left.score));
    // Words around a sentence make it better, but no answer.
    let best = candidates
        .first()
        .filter(|best| best.coverage > 0.0 || best.similarity >= SIMILARITY_MIN)
        .ok_or(Abstention::Unsupported)?;
    let confidence = best.coverage.max(best.similarity).min(CONFIDENCE_MAX);
    let score_min = best.score * SCORE_SHARE_MIN;

    let mut texts = HashSet::new();
    candidates.retain(|candidate| {
        candidate.score >= score_min && texts.insert(candidate.sentence.text())
    });
    candidates.truncate(SENTENCES_MAX);
    candidates.sort_by_key(|candidate| candidate.position);
    let claims = candidates.iter().map(claim).collect();
    Ok(Answer {
        method: AnswerMethod::Extractive,
        claims,
        confidence,
    })
}

fn is_similar(similarities: &[f32]) -> bool {
    similarities
        .iter()
        .any(|&similarity| similarity >= RELATED_SIMILARITY_MIN)
}

/// Something in it or around it has to do with the question, and it says something.
fn could_answer(candidate: &ScoredSentence<'_, '_>) -> bool {
    let is_near = candidate.neighbourhood > 0.0 || candidate.similarity >= SIMILARITY_MIN;
    is_near && !candidate.sentence.is_question() && !is_back_channel(candidate.sentence)
}

fn claim(candidate: &ScoredSentence<'_, '_>) -> Claim {
    let sentence = candidate.sentence;
    Claim::new(sentence.text().to_owned(), vec![sentence.cite(1.0)])
}

#[cfg(test)]
#[path = "extraction_tests.rs"]
mod tests;
