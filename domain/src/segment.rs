//! A segment: one utterance or paragraph with its exact place in the original.

use std::fmt;
use std::ops::Range;

use crate::char_offsets::CharOffsets;
use crate::redacted::Redacted;

/// The most segments that one interaction may have.
pub const SEGMENTS_MAX: usize = 200_000;

/// One utterance or paragraph of an interaction.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// Who spoke or wrote it, as the original names them.
    pub speaker: Option<String>,
    /// Number from 0 of the run of consecutive segments with the same speaker.
    pub turn: u32,
    /// First character of the content in the original (Unicode scalar values, from 0).
    pub start_char: u32,
    /// Character after the last one of the content in the original.
    pub end_char: u32,
    /// When it began, in milliseconds from the start of the recording.
    pub start_ms: Option<i64>,
    /// When it ended, in milliseconds from the start of the recording.
    pub end_ms: Option<i64>,
    /// The cleaned text: no markup, entities decoded, white space collapsed.
    pub content: String,
}

/// What a parser knows about a segment before its place in the whole is counted.
pub(crate) struct RawSegment {
    pub(crate) speaker: Option<String>,
    pub(crate) bytes: Range<usize>,
    pub(crate) start_ms: Option<i64>,
    pub(crate) end_ms: Option<i64>,
    pub(crate) content: String,
}

/// Collects segments in the order of the original; it counts characters and turns.
pub(crate) struct SegmentList<'a> {
    offsets: CharOffsets<'a>,
    segments: Vec<Segment>,
}

impl<'a> SegmentList<'a> {
    pub(crate) fn new(original: &'a str) -> Self {
        Self {
            offsets: CharOffsets::new(original),
            segments: Vec::new(),
        }
    }

    /// Adds the next segment; one without content is left out, and `None` means that the list is full.
    #[must_use]
    pub(crate) fn push(&mut self, raw: RawSegment) -> Option<()> {
        if raw.content.is_empty() {
            return Some(());
        }
        if self.segments.len() >= SEGMENTS_MAX {
            return None;
        }
        let turn = match self.segments.last() {
            None => 0,
            Some(last) if last.speaker == raw.speaker => last.turn,
            Some(last) => last.turn + 1,
        };
        let start_char = self.offsets.at(raw.bytes.start);
        self.segments.push(Segment {
            speaker: raw.speaker,
            turn,
            start_char,
            end_char: self.offsets.at(raw.bytes.end),
            start_ms: raw.start_ms,
            end_ms: raw.end_ms,
            content: raw.content,
        });
        Some(())
    }

    pub(crate) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Segment")
            .field("turn", &self.turn)
            .field("chars", &(self.start_char..self.end_char))
            .field("start_ms", &self.start_ms)
            .field("end_ms", &self.end_ms)
            .field("content", &Redacted(&self.content))
            .finish_non_exhaustive()
    }
}
