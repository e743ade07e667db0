//! Contradictions: sentences of the evidence that say different things about the same.
//!
//! A false alarm is worse than a contradiction that is missed. Two sentences contradict each other when
//! - they are of one account and not of two opportunities, or of one interaction,
//! - neither is a question, something that only might be ("if", "could"), or a report of how it once was,
//! - they share nearly all content words, values and words of change left out, and one that the question has,
//! - neither is about "me" or "us" where two people speak,
//! - they state different values of one kind and nothing else that differs, or one denies what the other states.
//!
//! What was said later goes before what was said earlier: in another interaction, or by the same speaker in the same one.

use std::cmp::Ordering;
use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use super::answers::Claim;
use super::evidence::Evidence;
use super::sentence_index::{EvidenceSentence, EvidenceSentences};
use super::stated_values::{CURRENCIES, MONTHS, StatedValues};
use crate::words::{ContentWord, WordKind, content_words, stems};

/// Share of the words of both sentences that are in both: one word more is mostly another subject.
const SHARED_MIN: f32 = 0.8;

/// Each is compared with each; the best evidence comes first.
const STATEMENTS_MAX: usize = 400;

/// A sentence with fewer words says too little for its contrary to be known.
const DENIED_WORDS_MIN: usize = 2;

/// Words that come with a change, or tell that something is said; they are no subject.
const CHANGE_WORDS: &str = "now new moved changed instead correct correction sorry actual meanwhile yet already still \
    anymore today currently finally confirmed agreed told wrote promised stands remains costs date set \
    percent hundred thousand million";

/// Words that make a statement one of what might be; "may" only in small letters.
const OPEN_WORDS: [&str; 13] = [
    "if", "unless", "whether", "would", "could", "should", "might", "may", "suppose", "assuming",
    "perhaps", "maybe", "hope",
];

/// Words that tell of the past, unless one of a change is there too.
const PAST_WORDS: [&str; 8] = [
    "was",
    "were",
    "had",
    "originally",
    "previously",
    "formerly",
    "initially",
    "ago",
];
const NEWS_WORDS: [&str; 6] = ["now", "moved", "changed", "agreed", "confirmed", "set"];

/// Words for who speaks, and for a side: nobody knows which one. "Won't" begins with "won".
const SELF_WORDS: [&str; 8] = ["i", "me", "my", "mine", "we", "us", "our", "ours"];
const FUTURE_WORDS: [&str; 3] = ["will", "won", "shall"];

/// When what contradicts a statement was said, seen from the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Before it: the statement is the later one.
    Earlier,
    /// After it: the statement does not hold any more.
    Later,
    /// Nothing decides between them.
    Undecided,
}

/// The sentences of the evidence that state something about what is asked.
pub(super) struct Statements<'s, 'e> {
    statements: Vec<Statement<'s, 'e>>,
    question_stems: HashSet<String>,
}

pub(super) struct Statement<'s, 'e> {
    pub(super) sentence: &'s EvidenceSentence<'e>,
    subject: HashSet<&'s str>,
    values: StatedValues,
    is_of_self: bool,
    is_of_future: bool,
}

/// What a claim itself states; the sentence that it rests on may state more.
pub(super) struct Claimed {
    values: StatedValues,
    stems: HashSet<String>,
}

impl Claimed {
    pub(super) fn read(text: &str) -> Self {
        Self {
            values: StatedValues::read(text),
            stems: stems(text),
        }
    }
}

impl<'s, 'e> Statements<'s, 'e> {
    pub(super) fn new(question: &str, index: &'s [EvidenceSentences<'e>]) -> Self {
        let mut ignored = stems(CHANGE_WORDS);
        ignored.extend(stems(&MONTHS.join(" ")));
        ignored.extend(
            CURRENCIES
                .iter()
                .flat_map(|(_, names)| stems(&names.join(" "))),
        );
        let question_stems = stems(question);
        let mut seen = HashSet::new();
        let sentences = index.iter().flat_map(|group| &group.sentences);
        let statements = sentences
            .filter(|sentence| !sentence.stems.is_disjoint(&question_stems))
            .filter(|sentence| is_news(sentence))
            // Chunks overlap.
            .filter(|sentence| seen.insert((sentence.segment.segment_id, sentence.bytes.start)))
            .map(|sentence| Statement::new(sentence, &ignored))
            .filter(|statement| !statement.subject.is_empty())
            .take(STATEMENTS_MAX);
        Self {
            statements: statements.collect(),
            question_stems,
        }
    }

    /// Those that a claim rests on.
    pub(super) fn cited(&self, claim: &Claim) -> Vec<&Statement<'s, 'e>> {
        let is_cited = |statement: &&Statement<'_, '_>| {
            claim.citations.iter().any(|citation| {
                citation.segment_id == statement.sentence.segment.segment_id
                    && citation.quote.contains(statement.sentence.text())
            })
        };
        self.statements.iter().filter(is_cited).collect()
    }

    /// What contradicts a claim in what it takes from a statement, in the order of [`Self::against`].
    pub(super) fn against_claim(
        &self,
        claimed: &Claimed,
        statement: &Statement<'_, '_>,
    ) -> Vec<(&Statement<'s, 'e>, Order)> {
        let mut against = self.against(statement);
        against.retain(|(other, _)| statement.is_contradicted_in(claimed, other));
        against
    }

    /// What contradicts a statement: the latest first, what nothing decides about, then what was said before.
    pub(super) fn against(
        &self,
        statement: &Statement<'_, '_>,
    ) -> Vec<(&Statement<'s, 'e>, Order)> {
        let found = self.contradicting(statement);
        let mut against: Vec<(&Statement<'s, 'e>, Order)> = found
            .into_iter()
            .map(|other| (other, statement.order_of(other)))
            // Nobody objects with what he has taken back himself.
            .filter(|(other, order)| *order != Order::Undecided || !self.is_superseded(other))
            .collect();
        let rank = |order: &Order| match order {
            Order::Later => 0,
            Order::Undecided => 1,
            Order::Earlier => 2,
        };
        against.sort_by(|(one, order), (two, other)| {
            (rank(order).cmp(&rank(other))).then_with(|| two.in_time(one))
        });
        against.dedup_by(|(one, _), (two, _)| one.sentence.text() == two.sentence.text());
        against
    }

    fn is_superseded(&self, statement: &Statement<'_, '_>) -> bool {
        let against = self.contradicting(statement);
        let mut orders = against.iter().map(|other| statement.order_of(other));
        orders.any(|order| order == Order::Later)
    }

    fn contradicting(&self, statement: &Statement<'_, '_>) -> Vec<&Statement<'s, 'e>> {
        let contradicts =
            |other: &&Statement<'_, '_>| statement.contradicts(other, &self.question_stems);
        self.statements.iter().filter(contradicts).collect()
    }
}

impl<'s, 'e> Statement<'s, 'e> {
    fn new(sentence: &'s EvidenceSentence<'e>, ignored: &HashSet<String>) -> Self {
        let title_stems = stems(&sentence.evidence.title);
        let first_word = sentence.text().unicode_words().next().map(content_words);
        let is_first = |at: usize, word: &ContentWord| {
            at == 0
                && first_word
                    .as_ref()
                    .is_some_and(|first| first.contains(word))
        };
        let subject = sentence.words.iter().enumerate();
        let subject = subject.filter(|(at, word)| match word.kind {
            WordKind::Number => false,
            // The account's name, mostly; any word is written so at the front of a sentence.
            WordKind::Capitalised => !title_stems.contains(&word.stem) || is_first(*at, word),
            WordKind::Plain => true,
        });
        let small_text = sentence.text().to_lowercase();
        Self {
            subject: subject
                .map(|(_, word)| word.stem.as_str())
                .filter(|stem| !ignored.contains(*stem))
                .collect(),
            values: StatedValues::read(sentence.text()),
            is_of_self: has_word(&small_text, &SELF_WORDS),
            is_of_future: has_word(&small_text, &FUTURE_WORDS),
            sentence,
        }
    }

    fn contradicts(&self, other: &Statement<'_, '_>, question_stems: &HashSet<String>) -> bool {
        let (one, two) = (self.sentence, other.sentence);
        let is_of_two_selves =
            (self.is_of_self || other.is_of_self) && !are_of_one_speaker(one, two);
        let mut shared = self.subject.intersection(&other.subject);
        let is_asked = shared.any(|stem| question_stems.contains(*stem));
        are_of_one_deal(one.evidence, two.evidence)
            && !is_of_two_selves
            && is_asked
            && self.share_of_words(other) >= SHARED_MIN
            && match (one.is_negated, two.is_negated) {
                (false, false) => self.values.contradicted_by(&other.values).is_some(),
                // "Not on March 3" and "not on May 1" are both true on any other day.
                (true, true) => false,
                _ => self.denies(other),
            }
    }

    /// The share of the words of both that are in both.
    fn share_of_words(&self, other: &Statement<'_, '_>) -> f32 {
        let shared = self.subject.intersection(&other.subject).count();
        shared as f32 / self.subject.union(&other.subject).count() as f32
    }

    /// Whether one denies the other, where just one is negated.
    fn denies(&self, other: &Statement<'_, '_>) -> bool {
        // What is not done yet will be.
        self.is_of_future == other.is_of_future
            && self.subject.intersection(&other.subject).count() >= DENIED_WORDS_MIN
            && self.values.can_be_denied_by(&other.values)
    }

    /// Whether what contradicts this contradicts a claim that rests on it too.
    fn is_contradicted_in(&self, claimed: &Claimed, other: &Statement<'_, '_>) -> bool {
        match self.values.contradicted_by(&other.values) {
            Some(value) => claimed.values.states(value),
            None => {
                let mut shared = self.subject.intersection(&other.subject);
                shared.all(|stem| claimed.stems.contains(*stem))
            }
        }
    }

    /// When `other` was said, seen from this.
    fn order_of(&self, other: &Statement<'_, '_>) -> Order {
        let (one, two) = (self.sentence, other.sentence);
        let is_same_talk = one.evidence.interaction_id == two.evidence.interaction_id;
        let speaker = one.segment.speaker.as_ref();
        let is_decided = if is_same_talk {
            speaker.is_some() && speaker == two.segment.speaker.as_ref()
        } else {
            one.evidence.occurred_ms != two.evidence.occurred_ms
        };
        match self.in_time(other) {
            Ordering::Less if is_decided => Order::Later,
            Ordering::Greater if is_decided => Order::Earlier,
            _ => Order::Undecided,
        }
    }

    /// The order in which statements are shown.
    pub(super) fn in_time(&self, other: &Statement<'_, '_>) -> Ordering {
        let time = |statement: &Statement<'_, '_>| {
            let EvidenceSentence {
                evidence,
                segment,
                bytes,
                ..
            } = statement.sentence;
            (
                evidence.occurred_ms,
                evidence.interaction_id,
                segment.start_char,
                segment.segment_id,
                bytes.start,
            )
        };
        time(self).cmp(&time(other))
    }
}

/// Without an account nobody knows.
fn are_of_one_deal(one: &Evidence, two: &Evidence) -> bool {
    let accounts = one.account_id.zip(two.account_id);
    let opportunities = one.opportunity_id.zip(two.opportunity_id);
    one.interaction_id == two.interaction_id
        || accounts.is_some_and(|(one, two)| one == two)
            && opportunities.is_none_or(|(one, two)| one == two)
}

/// Two that nobody knows the names of are one in one interaction at most.
fn are_of_one_speaker(one: &EvidenceSentence<'_>, two: &EvidenceSentence<'_>) -> bool {
    match (&one.segment.speaker, &two.segment.speaker) {
        (None, None) => one.evidence.interaction_id == two.evidence.interaction_id,
        (one, two) => one == two,
    }
}

/// Whether a sentence states how something is, or will be.
fn is_news(sentence: &EvidenceSentence<'_>) -> bool {
    let text = sentence.text();
    let is_past = has_word(text, &PAST_WORDS) && !has_word(text, &NEWS_WORDS);
    !sentence.is_question() && !is_past && !has_word(text, &OPEN_WORDS)
}

fn has_word(text: &str, words: &[&str]) -> bool {
    // "May" is a month; at the front of a sentence "If" is as open as "if".
    let mut found = text.unicode_words().map(|word| match word {
        "May" => String::new(),
        word => word.to_lowercase(),
    });
    found.any(|word| words.contains(&word.split(['\'', '’']).next().unwrap_or_default()))
}

#[cfg(test)]
#[path = "contradiction_tests.rs"]
mod tests;
