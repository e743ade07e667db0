//! A segment: one utterance or paragraph with its exact place in the original.

use std::fmt;
use std::ops::Range;

use crate::char_offsets::CharOffsets;
use crate::markup::collapse_whitespace;
use crate::pieces::{fits, piece_ranges};
use crate::redacted::Redacted;

/// The most segments that one interaction may have.
pub const SEGMENTS_MAX: usize = 200_000;

/// What a segment is to the interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// What was said or written here.
    #[default]
    Body,
    /// What an earlier mail said, repeated below or between.
    Quoted,
    /// Who wrote it, and how to reach them.
    Signature,
}

impl Part {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Quoted => "quoted",
            Self::Signature => "signature",
        }
    }
}

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
    pub part: Part,
}

/// What a parser knows about a segment before its place in the whole is counted.
pub(crate) struct RawSegment {
    pub(crate) speaker: Option<String>,
    pub(crate) bytes: Range<usize>,
    pub(crate) start_ms: Option<i64>,
    pub(crate) end_ms: Option<i64>,
    pub(crate) content: String,
    pub(crate) part: Part,
}

/// Collects segments in the order of the original; it cuts long ones and counts characters and turns.
pub(crate) struct SegmentList<'a> {
    original: &'a str,
    offsets: CharOffsets<'a>,
    segments: Vec<Segment>,
}

impl<'a> SegmentList<'a> {
    pub(crate) fn new(original: &'a str) -> Self {
        Self {
            original,
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
        if fits(&raw.content) {
            let chars = self.chars(raw.bytes.clone());
            return self.add(raw, chars);
        }
        let stretch = self.original.get(raw.bytes.clone()).unwrap_or_default();
        if collapse_whitespace(stretch) == raw.content {
            self.push_pieces(&raw)
        } else {
            self.push_content_pieces(&raw)
        }
    }

    /// A long stretch without markup: every piece has its exact range.
    fn push_pieces(&mut self, raw: &RawSegment) -> Option<()> {
        for bytes in piece_ranges(self.original, raw.bytes.clone()) {
            let content = collapse_whitespace(&self.original[bytes.clone()]);
            let chars = self.chars(bytes.clone());
            self.add(raw.piece(content, &bytes, &raw.bytes), chars)?;
        }
        Some(())
    }

    /// A long stretch with markup inside: its pieces share the range of the whole.
    fn push_content_pieces(&mut self, raw: &RawSegment) -> Option<()> {
        let chars = self.chars(raw.bytes.clone());
        let whole = 0..raw.content.len();
        for bytes in piece_ranges(&raw.content, whole.clone()) {
            let content = raw.content[bytes.clone()].to_owned();
            self.add(raw.piece(content, &bytes, &whole), chars.clone())?;
        }
        Some(())
    }

    fn add(&mut self, raw: RawSegment, chars: Range<u32>) -> Option<()> {
        if self.segments.len() >= SEGMENTS_MAX {
            return None;
        }
        let turn = match self.segments.last() {
            None => 0,
            Some(last) if last.speaker == raw.speaker => last.turn,
            Some(last) => last.turn + 1,
        };
        self.segments.push(Segment {
            speaker: raw.speaker,
            turn,
            start_char: chars.start,
            end_char: chars.end,
            start_ms: raw.start_ms,
            end_ms: raw.end_ms,
            content: raw.content,
            part: raw.part,
        });
        Some(())
    }

    fn chars(&mut self, bytes: Range<usize>) -> Range<u32> {
        let start = self.offsets.at(bytes.start);
        start..self.offsets.at(bytes.end)
    }

    pub(crate) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }
}

impl RawSegment {
    /// A piece of a long segment; its share of the time is its share of the text.
    fn piece(&self, content: String, bytes: &Range<usize>, whole: &Range<usize>) -> Self {
        let time_at = |byte: usize| {
            let (start, end) = (self.start_ms?, self.end_ms?);
            let done = byte.saturating_sub(whole.start) as f64 / whole.len().max(1) as f64;
            Some(start + ((end - start) as f64 * done) as i64)
        };
        Self {
            speaker: self.speaker.clone(),
            bytes: bytes.clone(),
            start_ms: time_at(bytes.start).or(self.start_ms),
            end_ms: time_at(bytes.end).or(self.end_ms),
            content,
            part: self.part,
        }
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
