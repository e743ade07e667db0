//! What of an interaction is indexed, in the pieces that chunks are made of: sentences, wherever its segments end.

use std::borrow::Cow;

use domain::chunking::{SplitSentence, Unit, section_titles, speaker_label, split_sentences};
use domain::cleaning::clean;
use domain::{Part, SEGMENT_CHARS_MAX};

use super::job_queue::JobSegment;

/// What goes on for longer without a full stop is no sentence, in bytes.
const SENTENCE_BYTES_MAX: usize = 4 << 10;
/// None of the segments that a longer paragraph was cut into is much shorter than half of this, in characters.
const CUT_PARAGRAPH_CHARS: i32 = SEGMENT_CHARS_MAX as i32;

/// A sentence, or a part of one.
pub struct Piece {
    /// The segments that it begins and ends in, by number from 0.
    pub first_segment: usize,
    pub last_segment: usize,
    turn: u32,
    starts_line: bool,
    pub speaker: Option<String>,
    pub section: String,
    pub content: String,
    /// What each segment has of it, for one that is too long; empty where that is known not to help.
    fragments: Vec<(usize, String)>,
    pub token_count: u32,
    pub label_tokens: u32,
}

impl Piece {
    pub fn unit(&self) -> Unit<'_> {
        Unit {
            turn: self.turn,
            starts_line: self.starts_line,
            speaker: self.speaker.as_deref(),
            content: &self.content,
            token_count: self.token_count,
            label_tokens: self.label_tokens,
        }
    }

    /// What stands in front of it where it begins a line.
    pub fn label(&self) -> Option<String> {
        self.speaker.as_deref().map(speaker_label)
    }

    /// Texts whose tokens it wants to know.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.label().into_iter().chain([self.content.clone()])
    }

    /// Whether it can be cut where a segment ends.
    pub fn is_in_many_segments(&self) -> bool {
        self.fragments.len() > 1
    }

    /// What each segment has of it.
    pub fn by_segment(mut self) -> impl Iterator<Item = Self> {
        std::mem::take(&mut self.fragments)
            .into_iter()
            .enumerate()
            .map(move |(number, (segment, content))| self.part(number, segment, content))
    }

    /// Its parts by tokens, in place of itself.
    pub fn parts(&self, parts: impl Iterator<Item = (String, u32)>) -> impl Iterator<Item = Self> {
        parts
            .enumerate()
            .map(|(number, (content, token_count))| Self {
                token_count,
                ..self.part(number, self.first_segment, content)
            })
    }

    fn part(&self, number: usize, segment: usize, content: String) -> Self {
        Self {
            first_segment: segment,
            last_segment: segment,
            turn: self.turn,
            starts_line: self.starts_line && number == 0,
            speaker: self.speaker.clone(),
            section: self.section.clone(),
            content,
            fragments: Vec::new(),
            token_count: 0,
            label_tokens: self.label_tokens,
        }
    }
}

/// The sentences of an interaction, cleaned where they were spoken. A turn goes on across an acknowledgement of
/// somebody else, and the section of a document counts as a turn.
pub fn pieces(segments: &[JobSegment]) -> Vec<Piece> {
    let stretches = stretches(segments);
    let goes_on = |a: &Stretch, b: &Stretch| b.continues(a, segments);
    let mut pieces = Vec::with_capacity(stretches.len());
    let mut last_turn = None;
    for run in stretches.chunk_by(goes_on) {
        let contents: Vec<&str> = run.iter().map(|stretch| &*stretch.content).collect();
        let sentences = match run {
            [row] if row.is_table_row() => vec![SplitSentence::whole(&row.content)],
            _ => split_sentences(&contents),
        };
        for (number, sentence) in sentences.iter().enumerate() {
            let turn = run[0].turn;
            let is_new = last_turn != Some(turn) || number == 0 && run[0].speaker.is_none();
            last_turn = Some(turn);
            match piece(run, &contents, sentence, is_new) {
                Some(piece) if piece.content.len() <= SENTENCE_BYTES_MAX => pieces.push(piece),
                Some(piece) => pieces.extend(piece.by_segment()),
                None => {}
            }
        }
    }
    pieces
}

fn piece(
    run: &[Stretch],
    contents: &[&str],
    sentence: &SplitSentence,
    starts_line: bool,
) -> Option<Piece> {
    let fragments: Vec<(usize, String)> = sentence
        .fragments
        .iter()
        .map(|(stretch, bytes)| {
            let content = contents[*stretch][bytes.clone()].to_owned();
            (run[*stretch].segment, content)
        })
        .collect();
    let first = run.first()?;
    Some(Piece {
        first_segment: fragments.first()?.0,
        last_segment: fragments.last()?.0,
        turn: first.turn,
        starts_line,
        speaker: first.speaker.map(str::to_owned),
        section: first.section.clone(),
        content: sentence.text(contents),
        fragments,
        token_count: 0,
        label_tokens: 0,
    })
}

/// What is indexed of a segment, or of a line of one.
struct Stretch<'a> {
    segment: usize,
    turn: u32,
    speaker: Option<&'a str>,
    section: String,
    content: Cow<'a, str>,
}

fn stretches(segments: &[JobSegment]) -> Vec<Stretch<'_>> {
    let sections = match segments.first() {
        Some(first) if first.kind == "document" => {
            section_titles(segments.iter().map(|segment| segment.content.as_str()))
        }
        _ => vec![String::new(); segments.len()],
    };
    // A mail that only quotes is about what it quotes.
    let has_body = segments.iter().any(is_body);
    let mut stretches: Vec<Stretch> = Vec::with_capacity(segments.len());
    for (index, (segment, section)) in segments.iter().zip(sections).enumerate() {
        let last = stretches.last();
        if has_body && !is_body(segment) || is_interjection(segment, last) {
            continue;
        }
        // What somebody wrote is as it was meant.
        let content = match is_spoken(segment) {
            true => clean(&segment.content, segment.language.as_deref()),
            false => Cow::Borrowed(segment.content.as_str()),
        };
        if content.is_empty() {
            continue;
        }
        let speaker = segment.speaker.as_deref();
        let is_same_turn = |last: &Stretch| last.speaker == speaker && last.section == section;
        let turn = last.map_or(0, |last| last.turn + u32::from(!is_same_turn(last)));
        stretches.extend(lines(content).map(|content| Stretch {
            segment: index,
            turn,
            speaker,
            section: section.clone(),
            content,
        }));
    }
    stretches
}

/// Items of a list and rows of a table are lines of a block; elsewhere a segment has no line feeds.
fn lines(content: Cow<'_, str>) -> impl Iterator<Item = Cow<'_, str>> {
    let lines: Vec<Cow<str>> = match content {
        Cow::Borrowed(content) => content.lines().map(Cow::Borrowed).collect(),
        cleaned => vec![cleaned],
    };
    lines.into_iter().filter(|line| !line.trim().is_empty())
}

impl Stretch<'_> {
    fn starts_with_mark(&self) -> bool {
        self.content.starts_with(['|', '-', '*', '#'])
    }

    fn is_table_row(&self) -> bool {
        self.content.starts_with('|')
    }

    /// Whether a sentence of the one before may go on here.
    fn continues(&self, before: &Self, segments: &[JobSegment]) -> bool {
        let (last, segment) = (&segments[before.segment], &segments[self.segment]);
        if before.turn != self.turn || before.segment == self.segment || before.is_table_row() {
            false
        } else if is_spoken(segment) {
            // Without speakers it may be another one who goes on.
            self.speaker.is_some() || self.content.starts_with(char::is_lowercase)
        } else {
            is_cut_paragraph(last, segment) && !self.starts_with_mark()
        }
    }
}

/// Whether one paragraph became these two segments: nothing else is between them, and they were too long together.
fn is_cut_paragraph(first: &JobSegment, second: &JobSegment) -> bool {
    let is_same_stretch = first.start_char == second.start_char;
    let (first_chars, second_chars) = (
        first.end_char - first.start_char,
        second.end_char - second.start_char,
    );
    is_same_stretch
        || second.start_char - first.end_char <= 1
            && first_chars >= CUT_PARAGRAPH_CHARS / 2
            && first_chars + 1 + second_chars > CUT_PARAGRAPH_CHARS
}

fn is_spoken(segment: &JobSegment) -> bool {
    matches!(segment.kind.as_str(), "call" | "meeting")
}

fn is_body(segment: &JobSegment) -> bool {
    // Empty in a schema of before 0.3.0.
    segment.part.is_empty() || segment.part == Part::Body.name()
}

/// "Mm-hm." of somebody who listens; "Yes." is an answer after a question.
fn is_interjection(segment: &JobSegment, last: Option<&Stretch>) -> bool {
    segment.is_backchannel
        && last.is_some_and(|last| {
            last.speaker != segment.speaker.as_deref() && !last.content.trim_end().ends_with('?')
        })
}
