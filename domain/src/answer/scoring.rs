//! How much use a sentence of the evidence is for a question.
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

use std::collections::{BTreeMap, BTreeSet};

use super::sentence_index::{EvidenceSentence, EvidenceSentences};
use crate::words::{WordKind, stems};

/// A sentence with fewer content words, and neither number nor name, is a back-channel.
const CONTENT_WORDS_MIN: usize = 4;

const RANK_BONUS: f32 = 0.1;
const KIND_BONUS: f32 = 0.15;
const QUESTION_SHARE: f32 = 0.5;

const NEIGHBOURHOOD_SHARE: f32 = 0.3;
const NEIGHBOURS: usize = 2;

/// A sentence with its score, and what it is made of.
pub(super) struct ScoredSentence<'s, 'e> {
    pub(super) sentence: &'s EvidenceSentence<'e>,
    /// Order of the evidence, then of the sentence in it.
    pub(super) position: (usize, usize),
    pub(super) coverage: f32,
    pub(super) neighbourhood: f32,
    pub(super) similarity: f32,
    pub(super) score: f32,
}

/// All sentences, in their order.
pub(super) fn score_sentences<'s, 'e>(
    question: &str,
    index: &'s [EvidenceSentences<'e>],
    weights: &WordWeights,
    similarities: &[f32],
) -> Vec<ScoredSentence<'s, 'e>> {
    let asked_kinds = asked_kinds(question);
    let mut similarities = similarities.iter().map(|similarity| similarity.max(0.0));
    let mut scored = Vec::new();
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
            let coverage = coverage(sentences, sentence_at, weights);
            scored.push(ScoredSentence {
                sentence,
                position: (group_at, sentence_at),
                coverage,
                neighbourhood,
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
    scored
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

pub(super) fn is_back_channel(sentence: &EvidenceSentence<'_>) -> bool {
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
pub(super) struct WordWeights {
    weights: BTreeMap<String, f32>,
    sum: f32,
}

impl WordWeights {
    /// Weight is ln(1 + sentences / sentences with the word); a word in none weighs as one in one does.
    pub(super) fn new(question: &str, index: &[EvidenceSentences<'_>]) -> Self {
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

    pub(super) fn is_zero(&self) -> bool {
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
