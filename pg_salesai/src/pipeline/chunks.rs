//! The chunks of interactions: token counts of the embedding model, and pure rules.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use domain::Part;
use domain::chunking::{
    ChunkBudget, ChunkFields, PreviousChunk, Unit, chunk_text, kept_ranges, pack, render,
    section_titles,
};
use domain::cleaning::clean;
use proto::limits::{self, BatchSize};
use proto::model::{ChunkingRequest, ModelChoice, TextBatch};
use proto::wire::{ChunkRequest, ModelKind};

use super::job_queue::{IndexedChunk, JobSegment};
use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// Tokens of a chunk's content: about one exchange of a call, which is what a citation wants.
const CHUNK_TOKENS_MAX: u32 = 180;
/// Tokens of a chunk that was packed again after an edit.
const REPACKED_TOKENS_MAX: u32 = 210;
/// Tokens that a chunk repeats of the one before, so that a question and its answer meet in one.
const OVERLAP_TOKENS: u32 = 40;
/// A longer heading would leave no room for what was said.
const HEADING_CHARS_MAX: usize = 200;
/// CLS and SEP, or their like.
const SPECIAL_TOKENS: u32 = 2;

/// What a job works on.
pub struct Material {
    pub segments: Vec<JobSegment>,
    /// The chunks of the version that is indexed.
    pub previous: Vec<IndexedChunk>,
}

pub struct Chunk {
    pub first_position: i32,
    pub last_position: i32,
    pub start_char: i32,
    pub end_char: i32,
    pub token_count: u32,
    pub heading: String,
    pub content: String,
    /// Whether a chunk of the same heading and content is there already.
    pub is_kept: bool,
}

/// How the embedding model counts.
pub struct Tokenizer {
    model: ModelChoice,
    /// Most tokens of a text, special ones included.
    tokens_max: u32,
    template: String,
}

impl Tokenizer {
    /// Asks the sidecar for the model's limit.
    pub fn new(model: ModelChoice, template: &str, deadline: Deadline) -> Result<Self, Error> {
        let found = sidecar::find_model(ModelKind::Embedding, model.name(), deadline)?;
        let tokens_max = found
            .map(|model| model.tokens_max)
            .ok_or(Error::NoModel { kind: "embedding" })?;
        Ok(Self {
            model,
            tokens_max,
            template: template.to_owned(),
        })
    }

    /// The chunks of each material.
    pub fn chunks(
        &self,
        materials: &[&Material],
        deadline: &impl Fn() -> Deadline,
    ) -> Result<Vec<Vec<Chunk>>, Error> {
        let mut pieces: Vec<Vec<Piece>> = materials.iter().map(|m| pieces(m)).collect();
        let prefixes: Vec<Vec<String>> = materials
            .iter()
            .zip(&pieces)
            .map(|(material, pieces)| self.prefixes(material, pieces))
            .collect();
        // One request for all: a mail alone would not be worth one.
        let texts: Vec<String> = prefixes
            .iter()
            .flatten()
            .cloned()
            .chain(pieces.iter().flatten().map(|piece| piece.unit(0).line()))
            .collect();
        let counts = self.count(&texts, deadline)?;
        let (prefix_counts, mut unit_counts) = counts.split_at(prefixes.iter().map(Vec::len).sum());
        let mut prefix_counts = prefix_counts.iter();
        let mut all = Vec::with_capacity(materials.len());
        for ((material, pieces), prefixes) in materials.iter().zip(&mut pieces).zip(&prefixes) {
            let prefix_tokens = prefix_counts.by_ref().take(prefixes.len()).max();
            let room = self.room(prefix_tokens.copied().unwrap_or(0));
            let (own_counts, rest) = unit_counts.split_at(pieces.len());
            unit_counts = rest;
            for (piece, &count) in pieces.iter_mut().zip(own_counts) {
                piece.token_count = count;
            }
            self.split_oversized(pieces, room, deadline)?;
            all.push(pack_pieces(material, pieces, room));
        }
        Ok(all)
    }

    /// What stands in front of the chunks: once for each section.
    fn prefixes(&self, material: &Material, pieces: &[Piece]) -> Vec<String> {
        let mut sections: Vec<&str> = pieces.iter().map(|piece| piece.section.as_str()).collect();
        sections.sort_unstable();
        sections.dedup();
        sections
            .into_iter()
            .map(|section| {
                let heading = material.heading(section);
                render(&self.template, material.fields(&heading, ""))
            })
            .collect()
    }

    /// Tokens that are left for a chunk's content.
    fn room(&self, prefix_tokens: u32) -> u32 {
        self.tokens_max
            .saturating_sub(SPECIAL_TOKENS + prefix_tokens)
            .max(limits::CHUNK_TOKENS_MIN)
    }

    fn count(&self, texts: &[String], deadline: &impl Fn() -> Deadline) -> Result<Vec<u32>, Error> {
        let mut counts = Vec::with_capacity(texts.len());
        let sizes = texts.iter().map(|text| BatchSize {
            texts: 1,
            bytes: text.len(),
            tokens: 0,
        });
        let most = BatchSize {
            texts: limits::COUNT_TEXTS_MAX,
            bytes: limits::TEXT_BYTES_MAX,
            tokens: 0,
        };
        for range in limits::batches(sizes, most) {
            let texts = TextBatch::new(texts[range].to_vec(), limits::COUNT_TEXTS_MAX)?;
            let deadline = deadline();
            counts.extend(sidecar::call(deadline, async |client| {
                client
                    .count_tokens(self.model.clone(), texts, deadline.remaining())
                    .await
            })?);
        }
        Ok(counts)
    }

    /// Cuts what the model would not take whole, at sentences where it can: 600 characters of Japanese, say.
    fn split_oversized(
        &self,
        pieces: &mut Vec<Piece>,
        room: u32,
        deadline: &impl Fn() -> Deadline,
    ) -> Result<(), Error> {
        if pieces.iter().all(|piece| piece.token_count <= room) {
            return Ok(());
        }
        for piece in std::mem::take(pieces) {
            if piece.token_count <= room {
                pieces.push(piece);
                continue;
            }
            // The speaker is said in front of each part.
            let label_tokens = piece.speaker.as_ref().map_or(0, |_| room / 4);
            let request = ChunkingRequest::try_from(ChunkRequest {
                model: String::from(self.model.clone()),
                text: piece.content.clone(),
                tokens_max: (room - label_tokens).max(limits::CHUNK_TOKENS_MIN),
                overlap_tokens: 0,
            })?;
            let deadline = deadline();
            let parts = sidecar::call(deadline, async |client| {
                client.chunk(request, deadline.remaining()).await
            })?;
            let characters: Vec<char> = piece.content.chars().collect();
            pieces.extend(parts.iter().map(|part| {
                let range = part.start_char as usize..part.end_char as usize;
                Piece {
                    content: characters.get(range).unwrap_or_default().iter().collect(),
                    token_count: part.token_count,
                    ..piece.clone()
                }
            }));
        }
        Ok(())
    }
}

impl Material {
    /// Its size, for dividing work.
    pub fn chars(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.content.len())
            .sum()
    }

    fn heading(&self, section: &str) -> String {
        let heading = self.segments.first().map_or("", |first| &first.heading);
        let whole = match section {
            "" => heading.to_owned(),
            section => format!("{heading} | {section}"),
        };
        whole.chars().take(HEADING_CHARS_MAX).collect()
    }

    /// What a template may name of one of its chunks.
    pub fn fields<'a>(&'a self, heading: &'a str, content: &'a str) -> ChunkFields<'a> {
        let first = self.segments.first();
        ChunkFields {
            heading,
            date: first.map_or("", |first| &first.occurred_on),
            kind: first.map_or("", |first| &first.kind),
            content,
        }
    }
}

/// A segment, or a part of one.
#[derive(Clone)]
struct Piece {
    /// Its segment, by number from 0.
    segment: usize,
    turn: u32,
    speaker: Option<String>,
    section: String,
    content: String,
    token_count: u32,
}

impl Piece {
    fn unit(&self, turn: u32) -> Unit<'_> {
        Unit {
            turn,
            speaker: self.speaker.as_deref(),
            content: &self.content,
            token_count: self.token_count,
        }
    }
}

/// What of a material is indexed, cleaned where it was spoken. A turn goes on across an acknowledgement of somebody else, and the section
/// of a document counts as a turn.
fn pieces(material: &Material) -> Vec<Piece> {
    let segments = &material.segments;
    let sections = match segments.first() {
        Some(first) if first.kind == "document" => {
            section_titles(segments.iter().map(|segment| segment.content.as_str()))
        }
        _ => vec![String::new(); segments.len()],
    };
    // A mail that only quotes is about what it quotes.
    let has_body = segments.iter().any(is_body);
    let mut pieces: Vec<Piece> = Vec::with_capacity(segments.len());
    for (index, (segment, section)) in segments.iter().zip(sections).enumerate() {
        let last = pieces.last();
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
        let goes_on = |last: &Piece| last.speaker == segment.speaker && last.section == section;
        let turn = last.map_or(0, |last| last.turn + u32::from(!goes_on(last)));
        pieces.push(Piece {
            segment: index,
            turn,
            speaker: segment.speaker.clone(),
            section,
            content: content.into_owned(),
            token_count: 0,
        });
    }
    pieces
}

fn is_spoken(segment: &JobSegment) -> bool {
    matches!(segment.kind.as_str(), "call" | "meeting")
}

fn is_body(segment: &JobSegment) -> bool {
    // Empty in a schema of before 0.3.0.
    segment.part.is_empty() || segment.part == Part::Body.name()
}

/// "Mm-hm." of somebody who listens; "Yes." is an answer after a question.
fn is_interjection(segment: &JobSegment, last: Option<&Piece>) -> bool {
    segment.is_backchannel
        && last.is_some_and(|last| {
            last.speaker != segment.speaker && !last.content.trim_end().ends_with('?')
        })
}

fn pack_pieces(material: &Material, pieces: &[Piece], room: u32) -> Vec<Chunk> {
    let budget = ChunkBudget {
        max_tokens: room.min(CHUNK_TOKENS_MAX),
        repacked_max_tokens: room.min(REPACKED_TOKENS_MAX),
        overlap_tokens: OVERLAP_TOKENS,
    };
    let units: Vec<Unit> = pieces.iter().map(|piece| piece.unit(piece.turn)).collect();
    let kept = kept_ranges(&units, &previous_chunks(material, pieces));
    let mut chunks: Vec<Chunk> = pack(&units, budget, &kept)
        .into_iter()
        .filter_map(|range| build_chunk(material, pieces, &units, range))
        .collect();
    // Each of them once: a text that now comes twice is new the second time.
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    for chunk in &material.previous {
        *known.entry((&chunk.heading, &chunk.content)).or_default() += 1;
    }
    for chunk in &mut chunks {
        if let Some(left @ 1..) = known.get_mut(&(chunk.heading.as_str(), chunk.content.as_str())) {
            *left -= 1;
            chunk.is_kept = true;
        }
    }
    chunks
}

fn previous_chunks<'a>(material: &'a Material, pieces: &[Piece]) -> Vec<PreviousChunk<'a>> {
    let start_of = |position: i32| {
        pieces.partition_point(|piece| material.segments[piece.segment].position < position)
    };
    material
        .previous
        .iter()
        .map(|chunk| PreviousChunk {
            start: start_of(chunk.first_position),
            text: &chunk.content,
        })
        .collect()
}

fn build_chunk(
    material: &Material,
    pieces: &[Piece],
    units: &[Unit],
    range: Range<usize>,
) -> Option<Chunk> {
    let (first, last) = (pieces.get(range.start)?, pieces.get(range.end - 1)?);
    let (first_segment, last_segment) = (
        &material.segments[first.segment],
        &material.segments[last.segment],
    );
    Some(Chunk {
        first_position: first_segment.position,
        last_position: last_segment.position,
        start_char: first_segment.start_char,
        end_char: last_segment.end_char,
        token_count: units[range.clone()]
            .iter()
            .map(|unit| unit.token_count)
            .sum(),
        heading: material.heading(&first.section),
        content: chunk_text(&units[range]),
        is_kept: false,
    })
}
