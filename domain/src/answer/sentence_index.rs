//! The sentences of the evidence with their words, in the order in which they were said.

use std::collections::HashSet;
use std::ops::Range;

use super::citation::{Citation, char_range};
use super::evidence::{Evidence, EvidenceSegment};
use crate::sentences::sentence_ranges;
use crate::words::{ContentWord, content_words, is_negated, stems};

/// One sentence of one segment.
pub(super) struct EvidenceSentence<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) segment: &'a EvidenceSegment,
    /// Where in the segment's content.
    pub(super) bytes: Range<usize>,
    pub(super) words: Vec<ContentWord>,
    pub(super) stems: HashSet<String>,
    /// Stems of the speaker's name: "Alice agreed" may rest on what Alice says.
    pub(super) speaker_stems: HashSet<String>,
    pub(super) is_negated: bool,
}

/// The sentences of one evidence, and what is known about all of it.
pub(super) struct EvidenceSentences<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) sentences: Vec<EvidenceSentence<'a>>,
    /// Stems of its sentences, speakers and title: where a name may come from.
    pub(super) known_stems: HashSet<String>,
}

/// Splits all evidence into sentences.
pub(super) fn index_sentences(evidence: &[Evidence]) -> Vec<EvidenceSentences<'_>> {
    evidence.iter().map(EvidenceSentences::new).collect()
}

impl<'a> EvidenceSentences<'a> {
    fn new(evidence: &'a Evidence) -> Self {
        let mut sentences = Vec::new();
        let mut known_stems = stems(&evidence.title);
        for segment in &evidence.segments {
            known_stems.extend(stems(segment.speaker.as_deref().unwrap_or_default()));
            for bytes in sentence_ranges(&segment.content) {
                let sentence = EvidenceSentence::new(evidence, segment, bytes);
                known_stems.extend(sentence.stems.iter().cloned());
                sentences.push(sentence);
            }
        }
        Self {
            evidence,
            sentences,
            known_stems,
        }
    }
}

impl<'a> EvidenceSentence<'a> {
    fn new(evidence: &'a Evidence, segment: &'a EvidenceSegment, bytes: Range<usize>) -> Self {
        let text = &segment.content[bytes.clone()];
        let words = content_words(text);
        Self {
            evidence,
            segment,
            bytes,
            stems: words.iter().map(|word| word.stem.clone()).collect(),
            speaker_stems: stems(segment.speaker.as_deref().unwrap_or_default()),
            words,
            is_negated: is_negated(text),
        }
    }

    pub(super) fn text(&self) -> &'a str {
        &self.segment.content[self.bytes.clone()]
    }

    pub(super) fn is_question(&self) -> bool {
        self.text().ends_with('?')
    }

    pub(super) fn cite(&self, similarity: f32) -> Citation {
        self.cite_through(self, similarity)
    }

    /// Cites from this sentence to a later one of the same segment.
    pub(super) fn cite_through(&self, last: &Self, similarity: f32) -> Citation {
        let bytes = self.bytes.start..last.bytes.end;
        let chars = char_range(&self.segment.content, bytes.clone());
        Citation {
            number: self.evidence.number,
            interaction_id: self.evidence.interaction_id,
            segment_id: self.segment.segment_id,
            quote: self.segment.content[bytes].to_owned(),
            quote_start: chars.start,
            quote_end: chars.end,
            similarity,
        }
    }
}
