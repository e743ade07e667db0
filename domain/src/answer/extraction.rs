//! Extraction: an answer out of the evidence's own sentences, for when the model's are not borne out.
//!
//! The score of a sentence is the sum of
//! - the weight of the question's content words in it, as a share of the weight of all of them; a
//!   word weighs more the fewer sentences have it, and half of the share of a question just before
//!   the sentence counts too, because answers do not repeat their questions;
//! - 0.3 of that share in the two sentences before it, itself and the two behind it, because people answer in several;
//! - its similarity to the question in meaning, where the caller has embedded both, and that of the evidence's most
//!   similar sentence;
//! - 0.1 / evidence number;
//! - 0.15 if the question asks how much, when or who, and the sentence has a number or a name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::answers::{Abstention, Answer, AnswerMethod, Claim};
use super::evidence::Evidence;
use super::sentence_index::{EvidenceSentence, EvidenceSentences, index_sentences};
use crate::words::{WordKind, stems};

const SENTENCES_MAX: usize = 3;

/// A sentence below this share of the best score is left out.
const SCORE_SHARE_MIN: f32 = 0.6;

/// A sentence with fewer content words, and neither number nor name, is a back-channel.
const CONTENT_WORDS_MIN: usize = 4;

const CONFIDENCE_MAX: f32 = 0.9;
const RANK_BONUS: f32 = 0.1;
const KIND_BONUS: f32 = 0.15;
const QUESTION_SHARE: f32 = 0.5;

const NEIGHBOURHOOD_SHARE: f32 = 0.3;
const NEIGHBOURS: usize = 2;

/// Evidence without a word of the question has to do with it from this similarity on.
const RELATED_SIMILARITY_MIN: f32 = 0.35;
/// A sentence of such evidence may answer from this one on.
const SIMILARITY_MIN: f32 = 0.25;

/// The evidence's sentences, as [`extract_answer`] wants their similarities.
pub fn evidence_sentences(evidence: &[Evidence]) -> Vec<String> {
    index_sentences(evidence)
        .iter()
        .flat_map(|group| &group.sentences)
        .map(|sentence| sentence.text().to_owned())
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
    let claims = candidates.iter().map(Candidate::claim).collect();
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

/// A sentence that could answer.
struct Candidate<'s, 'e> {
    sentence: &'s EvidenceSentence<'e>,
    /// Order of the evidence, then of the sentence in it.
    position: (usize, usize),
    coverage: f32,
    similarity: f32,
    score: f32,
}

impl Candidate<'_, '_> {
    fn claim(&self) -> Claim {
        let text = self.sentence.text().to_owned();
        Claim::new(text, vec![self.sentence.cite(1.0)])
    }
}

fn score_sentences<'s, 'e>(
    question: &str,
    index: &'s [EvidenceSentences<'e>],
    weights: &WordWeights,
    similarities: &[f32],
) -> Vec<Candidate<'s, 'e>> {
    let asked_kinds = asked_kinds(question);
    let mut similarities = similarities.iter().map(|similarity| similarity.max(0.0));
    let mut candidates = Vec::new();
    for (group_at, group) in index.iter().enumerate() {
        let sentences = &group.sentences;
        let near: Vec<f32> = (sentences.iter())
            .map(|_| similarities.next().unwrap_or(0.0))
            .collect();
        let nearest = near.iter().copied().fold(0.0, f32::max);
        let rank_bonus = RANK_BONUS / group.evidence.number.max(1) as f32;
        for (sentence_at, sentence) in sentences.iter().enumerate() {
            let neighbourhood = weights.coverage(neighbours(sentences, sentence_at));
            let similarity = near[sentence_at];
            let is_candidate = neighbourhood > 0.0 || similarity >= SIMILARITY_MIN;
            if sentence.is_question() || is_back_channel(sentence) || !is_candidate {
                continue;
            }
            let coverage = coverage(sentences, sentence_at, weights);
            candidates.push(Candidate {
                sentence,
                position: (group_at, sentence_at),
                coverage,
                similarity,
                score: coverage
                    + NEIGHBOURHOOD_SHARE * neighbourhood
                    + similarity
                    + nearest
                    + rank_bonus
                    + kind_bonus(sentence, &asked_kinds),
            });
        }
    }
    candidates
}

/// Of a sentence, with part of that of a question just before it.
fn coverage(sentences: &[EvidenceSentence<'_>], at: usize, weights: &WordWeights) -> f32 {
    let question_before = sentences[..at]
        .last()
        .filter(|before| before.is_question())
        .map_or(0.0, |before| weights.coverage([before]));
    (weights.coverage([&sentences[at]]) + QUESTION_SHARE * question_before).min(1.0)
}

fn kind_bonus(sentence: &EvidenceSentence<'_>, asked_kinds: &[WordKind]) -> f32 {
    let has_kind = sentence
        .words
        .iter()
        .any(|word| asked_kinds.contains(&word.kind));
    if has_kind { KIND_BONUS } else { 0.0 }
}

/// A sentence and those around it.
fn neighbours<'s, 'e>(
    sentences: &'s [EvidenceSentence<'e>],
    at: usize,
) -> &'s [EvidenceSentence<'e>] {
    let end = (at + NEIGHBOURS + 1).min(sentences.len());
    &sentences[at.saturating_sub(NEIGHBOURS)..end]
}

fn is_back_channel(sentence: &EvidenceSentence<'_>) -> bool {
    let has_fact = |kind| sentence.words.iter().any(|word| word.kind == kind);
    // The first word has a capital letter anyway.
    let has_name = sentence
        .words
        .iter()
        .skip(1)
        .any(|word| word.kind == WordKind::Capitalised);
    sentence.words.len() < CONTENT_WORDS_MIN && !has_fact(WordKind::Number) && !has_name
}

/// The kinds of words that an answer to this question has.
fn asked_kinds(question: &str) -> Vec<WordKind> {
    let question = format!(" {} ", question.to_lowercase());
    let asks = |phrases: &[&str]| phrases.iter().any(|phrase| question.contains(phrase));
    if asks(&[
        "how much",
        "how many",
        "how long",
        " when ",
        "what date",
        "what price",
        " cost",
    ]) {
        vec![WordKind::Number]
    } else if asks(&[" who ", " whom ", " whose "]) {
        vec![WordKind::Capitalised]
    } else {
        Vec::new()
    }
}

/// How much each content word of the question weighs; ordered, so that sums do not vary from run to run.
struct WordWeights {
    weights: BTreeMap<String, f32>,
    sum: f32,
}

impl WordWeights {
    /// Weight is ln(1 + sentences / sentences with the word); a word in none weighs as one in one does.
    fn new(question: &str, index: &[EvidenceSentences<'_>]) -> Self {
        let sentences = || index.iter().flat_map(|group| &group.sentences);
        let sentence_count = sentences().count() as f32;
        let mut weights = BTreeMap::new();
        let mut sum = 0.0;
        for stem in BTreeSet::from_iter(stems(question)) {
            let count = sentences()
                .filter(|sentence| sentence.stems.contains(&stem))
                .count();
            let weight = (1.0 + sentence_count / count.max(1) as f32).ln();
            sum += weight;
            if count > 0 {
                weights.insert(stem, weight);
            }
        }
        Self { weights, sum }
    }

    fn is_zero(&self) -> bool {
        self.weights.is_empty()
    }

    /// The share of the question's weight that the words of these sentences have.
    fn coverage<'s, 'e: 's>(
        &self,
        sentences: impl IntoIterator<Item = &'s EvidenceSentence<'e>, IntoIter: Clone>,
    ) -> f32 {
        let sentences = sentences.into_iter();
        let found: f32 = self
            .weights
            .iter()
            .filter(|(stem, _)| {
                sentences
                    .clone()
                    .any(|sentence| sentence.stems.contains(*stem))
            })
            .map(|(_, weight)| weight)
            .sum();
        if self.sum > 0.0 {
            found / self.sum
        } else {
            0.0
        }
    }
}

#[cfg(test)]
#[path = "extraction_tests.rs"]
mod tests;
