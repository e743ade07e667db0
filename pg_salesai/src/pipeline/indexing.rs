//! Chunks and embeddings of one interaction: model calls and pure rules, no database.

use domain::chunking::{ChunkBudget, SegmentTokens, pack_segments};
use proto::limits;
use proto::model::{ModelChoice, Priority, TextBatch};
use serde_json::{Value, json};

use super::embedding;
use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// Tokens of a chunk's content. With the heading it stays below MiniLM's 256, and a chunk is about one
/// exchange of a call, which is what a citation wants.
const CHUNK_TOKENS_MAX: u32 = 180;
/// Tokens that a chunk repeats of the one before, so that a question and its answer meet in one.
const OVERLAP_TOKENS: u32 = 40;

/// A segment as the queue hands it out.
pub struct JobSegment {
    pub heading: String,
    pub position: i32,
    pub turn: u32,
    pub speaker: Option<String>,
    pub start_char: i32,
    pub end_char: i32,
    pub content: String,
}

/// What a job writes.
pub struct Index {
    chunks: Vec<Chunk>,
    vectors: Vec<Vec<f32>>,
    pub model: String,
    pub model_sha256: String,
    pub dimensions: i32,
}

struct Chunk {
    first_position: i32,
    last_position: i32,
    start_char: i32,
    end_char: i32,
    token_count: u32,
    content: String,
}

impl Index {
    /// As `salesai.finish_job` reads them.
    pub fn chunks_json(&self) -> Value {
        self.chunks
            .iter()
            .map(|chunk| {
                json!({
                    "first_position": chunk.first_position,
                    "last_position": chunk.last_position,
                    "start_char": chunk.start_char,
                    "end_char": chunk.end_char,
                    "token_count": chunk.token_count,
                    "content": chunk.content,
                })
            })
            .collect()
    }

    /// All vectors end to end.
    pub fn embedding_values(&self) -> Vec<f32> {
        self.vectors.concat()
    }
}

/// Chunks the segments and embeds the chunks; `deadline` is asked anew for each call.
pub fn index(
    segments: &[JobSegment],
    priority: Priority,
    deadline: &impl Fn() -> Deadline,
) -> Result<Index, Error> {
    let chunks = chunk(segments, deadline)?;
    let heading = segments
        .first()
        .map_or("", |segment| segment.heading.as_str());
    let texts: Vec<String> = chunks
        .iter()
        .map(|chunk| format!("{heading}\n{}", chunk.content))
        .collect();
    let embedded = embedding::embed(&texts, priority, deadline)?;
    let dimensions = embedded.vectors.first().map_or(0, Vec::len);
    Ok(Index {
        chunks,
        vectors: embedded.vectors,
        model: embedded.model,
        model_sha256: embedded.model_sha256,
        dimensions: i32::try_from(dimensions).unwrap_or(i32::MAX),
    })
}

fn chunk(segments: &[JobSegment], deadline: &impl Fn() -> Deadline) -> Result<Vec<Chunk>, Error> {
    let lines: Vec<String> = segments.iter().map(line).collect();
    let token_counts = count_tokens(&lines, deadline)?;
    let sizes: Vec<SegmentTokens> = segments
        .iter()
        .zip(&token_counts)
        .map(|(segment, &token_count)| SegmentTokens {
            turn: segment.turn,
            token_count,
        })
        .collect();
    // Labels are counted with the lines.
    let budget = ChunkBudget {
        max_tokens: CHUNK_TOKENS_MAX,
        overlap_tokens: OVERLAP_TOKENS,
        label_tokens: 0,
    };
    Ok(pack_segments(&sizes, budget)
        .into_iter()
        .filter_map(|range| {
            let token_count = token_counts[range.clone()].iter().sum();
            build_chunk(&segments[range], token_count)
        })
        .collect())
}

fn build_chunk(segments: &[JobSegment], token_count: u32) -> Option<Chunk> {
    let (first, last) = (segments.first()?, segments.last()?);
    Some(Chunk {
        first_position: first.position,
        last_position: last.position,
        start_char: first.start_char,
        end_char: last.end_char,
        token_count,
        content: content(segments),
    })
}

/// The speaker is named where a turn begins.
fn content(segments: &[JobSegment]) -> String {
    let mut content = String::new();
    for (position, segment) in segments.iter().enumerate() {
        if position == 0 {
            content.push_str(&line(segment));
        } else if segments[position - 1].turn == segment.turn && segment.speaker.is_some() {
            content.push(' ');
            content.push_str(&segment.content);
        } else {
            content.push('\n');
            content.push_str(&line(segment));
        }
    }
    content
}

fn line(segment: &JobSegment) -> String {
    match &segment.speaker {
        Some(speaker) => format!("{speaker}: {}", segment.content),
        None => segment.content.clone(),
    }
}

fn count_tokens(lines: &[String], deadline: &impl Fn() -> Deadline) -> Result<Vec<u32>, Error> {
    let mut token_counts = Vec::with_capacity(lines.len());
    for range in limits::batches(lines, limits::COUNT_TEXTS_MAX) {
        let texts = TextBatch::new(lines[range].to_vec(), limits::COUNT_TEXTS_MAX)?;
        let deadline = deadline();
        token_counts.extend(sidecar::call(deadline, async |client| {
            client
                .count_tokens(ModelChoice::Default, texts, deadline.remaining())
                .await
        })?);
    }
    Ok(token_counts)
}
