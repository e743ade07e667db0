//! Contradictions: sentences of the evidence that say different things about the same.
//!
//! Two sentences contradict each other when
//! - they are of one account and not of two opportunities,
//! - neither is a question, or something that only might be ("if", "could"),
//! - they share nearly all content words, values and words of change left out, and one that the question has,
//! - neither is about "me" where two people speak,
//! - and they state different values of one kind, or one denies what the other states.
//!
//! What was said later goes before what was said earlier: in another interaction, or by the same speaker in the same one.

use std::cmp::Ordering;
use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use super::answers::Claim;
use super::evidence::Evidence;
use super::sentence_index::{EvidenceSentence, EvidenceSentences};
use super::stated_values::{CURRENCIES, MONTHS, StatedValues};
use crate::words::{WordKind, stems};

/// Share of the words of both sentences that are in both, where each has words that the other lacks.
const SHARED_MIN: f32 = 0.8;

/// The same, where one has all words of the other.
const CONTAINED_MIN: f32 = 0.65;

/// A sentence with fewer words says too little for its contrary to be known.
const DENIED_WORDS_MIN: usize = 2;

/// Words that come with a change, or tell that something is said; they are no subject.
const CHANGE_WORDS: &str = "now new moved changed instead correct correction sorry actual meanwhile yet already still \
    anymore today currently finally quoted offered confirmed agreed told wrote promised stands remains costs date set \
    percent hundred thousand million";

/// Words that make a statement one of what might be; "may" only in small letters.
const OPEN_WORDS: [&str; 13] = [
    "if", "unless", "whether", "would", "could", "should", "might", "may", "suppose", "assuming",
    "perhaps", "maybe", "hope",
];

const SELF_WORDS: [&str; 4] = ["i", "me", "my", "mine"];

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
            .filter(|sentence| !sentence.is_question() && !has_word(sentence.text(), &OPEN_WORDS))
            // Chunks overlap.
            .filter(|sentence| seen.insert((sentence.segment.segment_id, sentence.bytes.start)))
            .map(|sentence| Statement::new(sentence, &ignored))
            .filter(|statement| !statement.subject.is_empty());
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
        let subject = sentence.words.iter().filter(|word| match word.kind {
            WordKind::Number => false,
            // The account's name, mostly.
            WordKind::Capitalised => !title_stems.contains(&word.stem),
            WordKind::Plain => true,
        });
        Self {
            subject: subject
                .map(|word| word.stem.as_str())
                .filter(|stem| !ignored.contains(*stem))
                .collect(),
            values: StatedValues::read(sentence.text()),
            is_of_self: has_word(&sentence.text().to_lowercase(), &SELF_WORDS),
            sentence,
        }
    }

    fn contradicts(&self, other: &Statement<'_, '_>, question_stems: &HashSet<String>) -> bool {
        let (one, two) = (self.sentence, other.sentence);
        let is_of_two_selves =
            (self.is_of_self || other.is_of_self) && one.segment.speaker != two.segment.speaker;
        let shared: Vec<&str> = (self.subject.iter().copied())
            .filter(|stem| other.subject.contains(stem))
            .collect();
        let is_asked = shared.iter().any(|stem| question_stems.contains(*stem));
        if !are_of_one_deal(one.evidence, two.evidence) || is_of_two_selves || !is_asked {
            return false;
        }
        let (count, less) = (shared.len(), self.subject.len().min(other.subject.len()));
        let share = count as f32 / (self.subject.len() + other.subject.len() - count) as f32;
        if share
            < if count == less {
                CONTAINED_MIN
            } else {
                SHARED_MIN
            }
        {
            return false;
        }
        let differs = self.values.contradict(&other.values);
        match one.is_negated == two.is_negated {
            true => differs,
            false => !differs && count >= DENIED_WORDS_MIN,
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

/// As far as it is known.
fn are_of_one_deal(one: &Evidence, two: &Evidence) -> bool {
    let opportunities = one.opportunity_id.zip(two.opportunity_id);
    one.account_id == two.account_id && opportunities.is_none_or(|(one, two)| one == two)
}

fn has_word(text: &str, words: &[&str]) -> bool {
    // "May" is a month; at the front of a sentence "If" is as open as "if".
    let mut found = text.unicode_words().map(|word| match word {
        "May" => String::new(),
        word => word.to_lowercase(),
    });
    found.any(|word| words.contains(&word.split(['\'', '’']).next().unwrap_or_default()))
}
