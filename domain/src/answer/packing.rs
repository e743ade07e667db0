//! Packing: which sentences of the evidence a prompt has room for, where it has not for all.
//!
//! Nothing is shown twice, of what is said again the last. The sentence with the most use for each of its tokens
//! comes first, then the next; its use is its score, less by a tenth for each sentence of the same interaction that is
//! in already, so that one long talk does not take the place of all others. Where there are summaries a quarter of the
//! room is for interactions of which nothing is in by then. What is shown stands in the order of time.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::evidence::{Evidence, EvidenceSegment};
use super::prompt::{build_prompt, heading, label};
use super::scoring::{WordWeights, is_back_channel, score_sentences};
use super::sentence_index::{EvidenceSentence, EvidenceSentences, index_sentences};
use crate::fence::fenced_line;
use crate::prompt_template::PromptTemplate;

/// What a sentence counts for beside one of the same interaction.
const NEXT_OF_INTERACTION: f32 = 0.9;

/// What a line takes besides its text: its break, and the mark of a gap.
const LINE_TOKENS: u32 = 4;

/// The part of the room that is kept for interactions that are not shown otherwise, where they have summaries.
const OTHERS_DIVISOR: u32 = 4;

/// A sentence with fewer different words may come again.
const REPEATED_WORDS_MIN: usize = 4;

/// How much a prompt may hold.
pub struct PromptRoom {
    /// Tokens of the whole prompt.
    pub tokens_max: u32,
    /// Tokens of each of [`countable_texts`].
    pub token_counts: Vec<u32>,
}

impl PromptRoom {
    /// Whether nothing has to be left out.
    pub fn holds_all(&self) -> bool {
        let tokens = self
            .token_counts
            .iter()
            .map(|&count| u64::from(count) + u64::from(LINE_TOKENS));
        tokens.sum::<u64>() <= u64::from(self.tokens_max)
    }
}

/// The prompt without evidence, then for each evidence its heading and each of its sentences: what a prompt is made of.
pub fn countable_texts(
    template: &PromptTemplate,
    question: &str,
    evidence: &[Evidence],
) -> Vec<String> {
    let frame = build_prompt(template, question, &[]);
    let mut texts = vec![format!("{}\n{}", frame.system, frame.user)];
    for group in index_sentences(evidence) {
        texts.push(heading(group.evidence));
        texts.extend(group.sentences.iter().map(|sentence| {
            let speaker = label(sentence.segment.speaker.as_deref());
            format!("{speaker}{}", fenced_line(sentence.text()))
        }));
    }
    texts
}

/// What is shown of the evidence where there is not room for all, in the order of time.
pub fn pack_evidence(
    question: &str,
    evidence: &[Evidence],
    similarities: &[f32],
    room: &PromptRoom,
) -> Vec<Evidence> {
    let index = index_sentences(evidence);
    let weights = WordWeights::new(question, &index);
    let scores = score_sentences(question, &index, &weights, similarities);
    let scores = scores.iter().map(|scored| scored.score);
    let shown = Knapsack::new(&index, new_sentences(&index), scores, room).fill();
    let mut shown = shown.into_iter();
    let mut packed: Vec<Evidence> = index
        .iter()
        .filter_map(|group| {
            let is_shown: Vec<bool> = shown.by_ref().take(group.sentences.len()).collect();
            shorten(group, &is_shown)
        })
        .collect();
    packed.sort_by_key(|item| {
        let start = item.segments.first().map(|segment| segment.start_char);
        (item.occurred_ms, item.interaction_id, start, item.number)
    });
    packed
}

/// Which sentences are not there elsewhere: chunks overlap, mails are forwarded.
///
/// Of what is said again the last stands: who says A, then B, then A again means A.
fn new_sentences(index: &[EvidenceSentences<'_>]) -> Vec<bool> {
    let sentences: Vec<_> = index.iter().flat_map(|group| &group.sentences).collect();
    let place =
        |sentence: &EvidenceSentence<'_>| (sentence.segment.segment_id, sentence.bytes.start);
    let mut places = HashSet::new();
    let is_first = sentences
        .iter()
        .map(|sentence| places.insert(place(sentence)));
    let mut is_new: Vec<bool> = is_first.collect();
    let mut in_time: Vec<usize> = (0..sentences.len()).filter(|&at| is_new[at]).collect();
    in_time.sort_by_key(|&at| {
        let EvidenceSentence {
            evidence, segment, ..
        } = sentences[at];
        (
            evidence.occurred_ms,
            evidence.interaction_id,
            segment.start_char,
            place(sentences[at]),
        )
    });
    let mut said = HashMap::new();
    for at in in_time {
        let sentence = sentences[at];
        let words: BTreeSet<&str> = sentence.stems.iter().map(String::as_str).collect();
        if words.len() >= REPEATED_WORDS_MIN {
            let key = (sentence.evidence.account_id, sentence.is_negated, words);
            if let Some(earlier) = said.insert(key, at) {
                is_new[earlier] = false;
            }
        }
    }
    is_new
}

/// Sentences that are taken while there is room for them.
struct Knapsack<'s, 'e> {
    items: Vec<Item<'s, 'e>>,
    heading_tokens: Vec<u32>,
    tokens_left: u32,
    shown: Vec<bool>,
    /// Sentences of each interaction.
    taken: HashMap<i64, i32>,
}

struct Item<'s, 'e> {
    sentence: &'s EvidenceSentence<'e>,
    group: usize,
    /// Its place among all sentences.
    place: usize,
    score: f32,
    tokens: u32,
}

impl<'s, 'e> Knapsack<'s, 'e> {
    fn new(
        index: &'s [EvidenceSentences<'e>],
        is_new: Vec<bool>,
        scores: impl Iterator<Item = f32>,
        room: &PromptRoom,
    ) -> Self {
        let mut counts = room
            .token_counts
            .iter()
            .map(|count| count.saturating_add(LINE_TOKENS));
        let frame_tokens = counts.next().unwrap_or(0);
        let mut scores = scores;
        let (mut items, mut heading_tokens) = (Vec::new(), Vec::new());
        let mut places = 0..;
        for (group, sentences) in index.iter().enumerate() {
            heading_tokens.push(counts.next().unwrap_or(0));
            for sentence in &sentences.sentences {
                items.push(Item {
                    sentence,
                    group,
                    place: places.next().unwrap_or_default(),
                    score: scores.next().unwrap_or(0.0),
                    tokens: counts.next().unwrap_or(0),
                });
            }
        }
        items.retain(|item| is_new[item.place] && !is_back_channel(item.sentence));
        Self {
            items,
            heading_tokens,
            tokens_left: room.tokens_max.saturating_sub(frame_tokens),
            shown: vec![false; is_new.len()],
            taken: HashMap::new(),
        }
    }

    /// Which sentences are shown in the end.
    fn fill(mut self) -> Vec<bool> {
        let has_summaries = self
            .items
            .iter()
            .any(|item| item.sentence.evidence.is_summary);
        if has_summaries {
            self.take_best(self.tokens_left / OTHERS_DIVISOR);
            self.take_others();
        }
        self.take_best(0);
        self.shown
    }

    /// The most useful ones, until no more than `kept` tokens are left.
    fn take_best(&mut self, kept: u32) {
        loop {
            let room = self.tokens_left.saturating_sub(kept);
            let fitting = (0..self.items.len()).filter(|&at| self.cost(&self.items[at]) <= room);
            let use_of = |at: usize| {
                let item = &self.items[at];
                let taken = self.taken.get(&item.interaction_id()).copied().unwrap_or(0);
                item.score * NEXT_OF_INTERACTION.powi(taken) / self.cost(item).max(1) as f32
            };
            let best = fitting
                .rev()
                .max_by(|&one, &two| use_of(one).total_cmp(&use_of(two)));
            match best {
                Some(best) => self.take(best),
                None => return,
            }
        }
    }

    /// Of each interaction of which nothing is in, the first sentence of its summary that fits.
    fn take_others(&mut self) {
        let mut at = 0;
        while at < self.items.len() {
            let item = &self.items[at];
            let is_new = !self.taken.contains_key(&item.interaction_id());
            if item.sentence.evidence.is_summary && is_new && self.cost(item) <= self.tokens_left {
                self.take(at);
            } else {
                at += 1;
            }
        }
    }

    fn take(&mut self, at: usize) {
        let item = self.items.remove(at);
        self.tokens_left -= self.cost(&item);
        self.heading_tokens[item.group] = 0;
        self.shown[item.place] = true;
        *self.taken.entry(item.interaction_id()).or_default() += 1;
    }

    /// With the heading, where it is not there yet.
    fn cost(&self, item: &Item<'_, '_>) -> u32 {
        item.tokens.saturating_add(self.heading_tokens[item.group])
    }
}

impl Item<'_, '_> {
    fn interaction_id(&self) -> i64 {
        self.sentence.evidence.interaction_id
    }
}

/// The evidence with those of its sentences alone; None without any.
fn shorten(group: &EvidenceSentences<'_>, is_shown: &[bool]) -> Option<Evidence> {
    let mut segments: Vec<EvidenceSegment> = Vec::new();
    let mut last_shown = None;
    for (at, sentence) in group
        .sentences
        .iter()
        .enumerate()
        .filter(|(at, _)| is_shown[*at])
    {
        let follows = at > 0 && last_shown == Some(at - 1);
        match segments
            .last_mut()
            .filter(|segment| segment.segment_id == sentence.segment.segment_id)
        {
            Some(segment) => {
                segment.content.push_str(if follows { " " } else { " … " });
                segment.content.push_str(sentence.text());
            }
            None => segments.push(EvidenceSegment {
                content: sentence.text().to_owned(),
                ..sentence.segment.clone()
            }),
        }
        last_shown = Some(at);
    }
    (!segments.is_empty()).then(|| Evidence {
        segments,
        ..group.evidence.clone()
    })
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
