//! Verification: which sentences of a generated text the evidence bears out.
//!
//! The support rule, the same for every model:
//! 1. A sentence is a claim if it is no question and has a number or a content word that the
//!    question does not have.
//! 2. One sentence of the evidence, or two adjacent ones, supports a claim when
//!    - at least 60 % of the claim's content words are in it (the speaker's name counts as in it),
//!    - something that the question does not say is in it, the speaker's name not counted,
//!    - every number of the claim is in it (a percentage only as a percentage),
//!    - every capitalised word of the claim is somewhere in that evidence, its speakers or its title,
//!    - both deny or neither does ("they did not agree" never supports "they agreed").
//! 3. Of several, a sentence of the evidence that the model cites wins, then the larger share of
//!    words, then the single sentence, then the earlier one.

use std::collections::HashSet;

use super::answers::{Abstention, Answer, AnswerMethod, Claim};
use super::citation::Citation;
use super::draft::{Draft, read_drafts};
use super::evidence::Evidence;
use super::sentence_index::{EvidenceSentence, EvidenceSentences, index_sentences};
use crate::words::{ContentWord, WordKind, content_words, is_negated, stems};

/// The most claims that an answer has.
pub const CLAIMS_MAX: usize = 8;

/// Share of a claim's content words that must be in the evidence.
const SUPPORT_SHARE_MIN: f32 = 0.6;

/// Keeps the sentences of `generated` that the evidence supports, each with its quotes.
pub fn verify_answer(generated: &str, question: &str, evidence: &[Evidence]) -> Vec<Claim> {
    verify_drafts(&read_drafts(generated), question, evidence)
}

/// Sentences of a text that is still being written which what is to come cannot change: all but the last, whose end and
/// whose citation may be missing.
pub fn settled_sentences(generated: &str) -> usize {
    read_drafts(without_open_mark(generated))
        .len()
        .saturating_sub(1)
}

/// The claims of those sentences: the first of what [`judge_answer`] finds in the whole text.
pub fn settled_claims(generated: &str, question: &str, evidence: &[Evidence]) -> Vec<Claim> {
    let mut drafts = read_drafts(without_open_mark(generated));
    drafts.pop();
    verify_drafts(&drafts, question, evidence)
}

/// Verifies `generated` and gives what is left as an answer.
///
/// Confidence is the share of generated sentences that are supported times the mean similarity of
/// their citations.
pub fn judge_answer(
    generated: &str,
    question: &str,
    evidence: &[Evidence],
) -> Result<Answer, Abstention> {
    if evidence.is_empty() {
        return Err(Abstention::NoMatch);
    }
    let drafts = read_drafts(generated);
    let claims = verify_drafts(&drafts, question, evidence);
    if claims.is_empty() {
        return Err(Abstention::Unsupported);
    }
    let supported_share = claims.len() as f32 / drafts.len().max(1) as f32;
    let confidence = (supported_share * mean_similarity(&claims)).clamp(0.0, 1.0);
    Ok(Answer {
        method: AnswerMethod::Generated,
        claims,
        confidence,
    })
}

/// `It costs 15 euros. [1` is not to be read as a sentence "1" behind one without a citation.
fn without_open_mark(generated: &str) -> &str {
    match generated.rfind('[') {
        Some(at) if !generated[at..].contains(']') => &generated[..at],
        _ => generated,
    }
}

fn verify_drafts(drafts: &[Draft], question: &str, evidence: &[Evidence]) -> Vec<Claim> {
    let index = index_sentences(evidence);
    let question_stems = stems(question);
    let claims = drafts
        .iter()
        .filter_map(|draft| support_draft(draft, &question_stems, &index));
    claims.take(CLAIMS_MAX).collect()
}

fn support_draft(
    draft: &Draft,
    question_stems: &HashSet<String>,
    index: &[EvidenceSentences<'_>],
) -> Option<Claim> {
    let says_something =
        |word: &ContentWord| word.kind == WordKind::Number || !question_stems.contains(&word.stem);
    if draft.is_question() || !content_words(&draft.text).iter().any(says_something) {
        return None;
    }
    let statement = Statement::new(&draft.text);
    let mut best: Option<Support> = None;
    for group in index {
        let is_cited = draft.numbers.contains(&group.evidence.number);
        for window in windows(&group.sentences) {
            let found = statement.share_in(window, &group.known_stems, question_stems);
            if let Some(share) = found {
                let support = Support {
                    is_cited,
                    share,
                    window,
                };
                if best.as_ref().is_none_or(|best| support.beats(best)) {
                    best = Some(support);
                }
            }
        }
    }
    Some(Claim::new(draft.text.clone(), best?.cite()))
}

/// Every sentence, then every two adjacent ones.
fn windows<'s, 'e>(
    sentences: &'s [EvidenceSentence<'e>],
) -> impl Iterator<Item = &'s [EvidenceSentence<'e>]> {
    sentences.chunks(1).chain(sentences.windows(2))
}

/// What a claim says, in words.
struct Statement {
    words: Vec<ContentWord>,
    stems: HashSet<String>,
    is_negated: bool,
}

impl Statement {
    fn new(text: &str) -> Self {
        let words = content_words(text);
        let stems = words.iter().map(|word| word.stem.clone()).collect();
        Self {
            words,
            stems,
            is_negated: is_negated(text),
        }
    }

    /// The share of its words that the window holds, if the window supports it.
    fn share_in(
        &self,
        window: &[EvidenceSentence<'_>],
        known_stems: &HashSet<String>,
        question_stems: &HashSet<String>,
    ) -> Option<f32> {
        let said = |stem: &String| window.iter().any(|sentence| sentence.stems.contains(stem));
        let has_facts = self.words.iter().all(|word| match word.kind {
            WordKind::Number => said(&word.stem),
            WordKind::Capitalised => known_stems.contains(&word.stem),
            WordKind::Plain => true,
        });
        let is_denied = window.iter().any(|sentence| sentence.is_negated);
        let is_news = |word: &ContentWord| {
            said(&word.stem)
                && (word.kind == WordKind::Number || !question_stems.contains(&word.stem))
        };
        let has_news = self.words.iter().any(is_news);
        if !has_news || !has_facts || is_denied != self.is_negated {
            return None;
        }
        let spoken = |stem: &String| {
            window
                .iter()
                .any(|sentence| sentence.speaker_stems.contains(stem))
        };
        let found_count = self
            .stems
            .iter()
            .filter(|stem| said(stem) || spoken(stem))
            .count();
        let share = found_count as f32 / self.stems.len() as f32;
        (share >= SUPPORT_SHARE_MIN).then_some(share)
    }
}

/// One window that supports a claim.
struct Support<'s, 'e> {
    is_cited: bool,
    share: f32,
    window: &'s [EvidenceSentence<'e>],
}

impl Support<'_, '_> {
    fn beats(&self, other: &Self) -> bool {
        let rank = |support: &Self| {
            (
                support.is_cited,
                support.share,
                -(support.window.len() as isize),
            )
        };
        rank(self) > rank(other)
    }

    /// One quote for each sentence; two sentences of one segment are one quote.
    fn cite(&self) -> Vec<Citation> {
        match self.window {
            [first, second] if first.segment.segment_id == second.segment.segment_id => {
                vec![first.cite_through(second, self.share)]
            }
            sentences => sentences
                .iter()
                .map(|sentence| sentence.cite(self.share))
                .collect(),
        }
    }
}

fn mean_similarity(claims: &[Claim]) -> f32 {
    let similarities: Vec<f32> = claims
        .iter()
        .flat_map(|claim| &claim.citations)
        .map(|citation| citation.similarity)
        .collect();
    similarities.iter().sum::<f32>() / similarities.len().max(1) as f32
}

#[cfg(test)]
#[path = "verification_tests.rs"]
mod tests;
