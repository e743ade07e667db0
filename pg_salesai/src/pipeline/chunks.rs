//! The chunks of interactions: token counts of the embedding model, and pure rules.

use std::collections::HashMap;
use std::ops::Range;

use domain::chunking::{
    ChunkBudget, ChunkFields, PreviousChunk, Unit, chunk_text, chunk_tokens, kept_ranges, pack,
    render,
};
use proto::limits::{self, BatchSize};
use proto::model::{ChunkingRequest, ModelChoice, TextBatch};
use proto::wire::{ChunkRequest, ModelKind};

use super::indexing::TargetSet;
use super::job_queue::{IndexedChunk, JobSegment};
use super::pieces::{Piece, pieces};
use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// Tokens of a chunk's content: about one exchange of a call, which is what a citation wants.
const CHUNK_TOKENS_MAX: u32 = 180;
/// Tokens of a chunk that was packed again after an edit.
const REPACKED_TOKENS_MAX: u32 = 210;
/// Tokens that a chunk repeats of the one before, so that a question and its answer meet in one.
const OVERLAP_TOKENS: u32 = 20;
/// A longer heading would leave no room for what was said.
const HEADING_CHARS_MAX: usize = 200;

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
    /// Most tokens of a text, before the model adds its own.
    tokens_max: u32,
    template: String,
}

impl Tokenizer {
    /// Asks the sidecar for the limits of the active model and of those that will get the same chunks.
    pub fn new(
        active: &TargetSet,
        others: &[TargetSet],
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let models = sidecar::models(deadline)?;
        let tokens_max = |target: &TargetSet| {
            let choice = target.model_choice();
            let model = sidecar::meant_model(&models, ModelKind::Embedding, choice.name())?;
            Some(model.tokens_max.saturating_sub(model.passage_added_tokens))
        };
        let active_max = tokens_max(active).ok_or(Error::NoModel { kind: "embedding" })?;
        // Those that are gone are the concern of their own jobs.
        let others_max = others.iter().filter_map(tokens_max).min();
        Ok(Self {
            model: active.model_choice(),
            tokens_max: active_max.min(others_max.unwrap_or(active_max)),
            template: active.template.clone(),
        })
    }

    /// The chunks of each material.
    pub fn chunks(
        &self,
        materials: &[&Material],
        deadline: &impl Fn() -> Deadline,
    ) -> Result<Vec<Vec<Chunk>>, Error> {
        let mut all_pieces: Vec<Vec<Piece>> = materials
            .iter()
            .map(|material| pieces(&material.segments))
            .collect();
        let prefixes: Vec<Vec<String>> = materials
            .iter()
            .zip(&all_pieces)
            .map(|(material, pieces)| self.prefixes(material, pieces))
            .collect();
        // One request for all: a mail alone would not be worth one.
        let mut counts = TokenCounts::default();
        let texts = prefixes.iter().flatten().cloned();
        let texts = texts.chain(all_pieces.iter().flatten().flat_map(Piece::texts));
        self.count(&mut counts, texts, deadline)?;
        let mut all = Vec::with_capacity(materials.len());
        for ((material, pieces), prefixes) in materials.iter().zip(&mut all_pieces).zip(&prefixes) {
            let prefix_tokens = prefixes.iter().map(|prefix| counts.of(prefix)).max();
            let room = self.room(prefix_tokens.unwrap_or(0));
            self.split_oversized(pieces, room, &mut counts, deadline)?;
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
            .saturating_sub(prefix_tokens)
            .max(limits::CHUNK_TOKENS_MIN)
    }

    /// Counts those of `texts` that are not counted yet.
    fn count(
        &self,
        counts: &mut TokenCounts,
        texts: impl Iterator<Item = String>,
        deadline: &impl Fn() -> Deadline,
    ) -> Result<(), Error> {
        let mut texts: Vec<String> = texts.filter(|text| !counts.0.contains_key(text)).collect();
        texts.sort_unstable();
        texts.dedup();
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
            let batch = TextBatch::new(texts[range.clone()].to_vec(), limits::COUNT_TEXTS_MAX)?;
            let deadline = deadline();
            let found = sidecar::call(deadline, async |client| {
                client
                    .count_tokens(self.model.clone(), batch, deadline.remaining())
                    .await
            })?;
            counts.0.extend(texts[range].iter().cloned().zip(found));
        }
        Ok(())
    }

    /// Cuts what the model would not take whole: where its segments end, and where that is not enough at sentences,
    /// words and characters.
    fn split_oversized(
        &self,
        pieces: &mut Vec<Piece>,
        room: u32,
        counts: &mut TokenCounts,
        deadline: &impl Fn() -> Deadline,
    ) -> Result<(), Error> {
        let exceeds = |piece: &Piece, most: u32| piece.label_tokens + piece.token_count > most;
        let is_oversized = |piece: &Piece| exceeds(piece, room);
        counts.tell(pieces);
        // Talk without full stops fits a chunk in parts, whatever the model takes.
        let is_long = |piece: &Piece| {
            exceeds(piece, room.min(REPACKED_TOKENS_MAX)) && piece.is_in_many_segments()
        };
        if !pieces
            .iter()
            .any(|piece| is_long(piece) || is_oversized(piece))
        {
            return Ok(());
        }
        let mut cut = Vec::with_capacity(pieces.len());
        for piece in std::mem::take(pieces) {
            match is_long(&piece) {
                true => cut.extend(piece.by_segment()),
                false => cut.push(piece),
            }
        }
        *pieces = cut;
        self.count(counts, pieces.iter().flat_map(Piece::texts), deadline)?;
        counts.tell(pieces);
        for piece in std::mem::take(pieces) {
            if !is_oversized(&piece) {
                pieces.push(piece);
                continue;
            }
            // The speaker is said in front of each part.
            let tokens_max = room.saturating_sub(piece.label_tokens);
            let request = ChunkingRequest::try_from(ChunkRequest {
                model: String::from(self.model.clone()),
                text: piece.content.clone(),
                tokens_max: tokens_max.max(limits::CHUNK_TOKENS_MIN),
                overlap_tokens: 0,
            })?;
            let deadline = deadline();
            let parts = sidecar::call(deadline, async |client| {
                client.chunk(request, deadline.remaining()).await
            })?;
            let characters: Vec<char> = piece.content.chars().collect();
            pieces.extend(piece.parts(parts.iter().map(|part| {
                let range = part.start_char as usize..part.end_char as usize;
                let content = characters.get(range).unwrap_or_default().iter().collect();
                (content, part.token_count)
            })));
        }
        Ok(())
    }
}

/// Tokens of texts under the embedding model's tokenizer, without special tokens.
#[derive(Default)]
struct TokenCounts(HashMap<String, u32>);

impl TokenCounts {
    /// 0 for one that was not counted.
    fn of(&self, text: &str) -> u32 {
        self.0.get(text).copied().unwrap_or(0)
    }

    fn tell(&self, pieces: &mut [Piece]) {
        for piece in pieces {
            piece.token_count = self.of(&piece.content);
            piece.label_tokens = piece.label().map_or(0, |label| self.of(&label));
        }
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

fn pack_pieces(material: &Material, pieces: &[Piece], room: u32) -> Vec<Chunk> {
    let budget = ChunkBudget {
        max_tokens: room.min(CHUNK_TOKENS_MAX),
        repacked_max_tokens: room.min(REPACKED_TOKENS_MAX),
        overlap_tokens: OVERLAP_TOKENS,
    };
    let units: Vec<Unit> = pieces.iter().map(Piece::unit).collect();
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
        pieces.partition_point(|piece| material.segments[piece.first_segment].position < position)
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
        &material.segments[first.first_segment],
        &material.segments[last.last_segment],
    );
    Some(Chunk {
        first_position: first_segment.position,
        last_position: last_segment.position,
        start_char: first_segment.start_char,
        end_char: last_segment.end_char,
        token_count: chunk_tokens(&units[range.clone()]),
        heading: material.heading(&first.section),
        content: chunk_text(&units[range]),
        is_kept: false,
    })
}
