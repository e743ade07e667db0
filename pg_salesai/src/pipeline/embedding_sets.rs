//! Jobs of an embedding set that is being built: its vectors, range by range, and then its index.

use std::time::Duration;

use domain::chunking::{ChunkFields, render};
use proto::model::{ModelChoice, Priority, TextPurpose};

use super::Transactions;
use super::embedding::{self, Embedded, Text};
use super::indexing::{SetVectors, TargetSet};
use super::job_queue::{self, Job, RangeChunk};
use super::outcome::{Class, Outcome, load, of_database};
use crate::sidecar::Deadline;

/// Embeds what a range of chunks lacks, as far as it comes.
pub fn embed_range(
    transactions: &impl Transactions,
    job: &Job,
    priority: Priority,
    deadline: &impl Fn() -> Deadline,
    patience: Duration,
) -> Outcome {
    let (target, mut chunks) = match load(transactions, || job_queue::range_chunks(job)) {
        Ok(Some(range)) => range,
        // The set was dropped, and the job with it.
        Ok(None) => return Outcome::NotFilled,
        Err(outcome) => return outcome,
    };
    // One of them may be what the sidecar died of: each goes alone, the first another one each time, until that one is
    // left over.
    let mut group_size = chunks.len().max(1);
    if job.losses > 0 {
        chunks.rotate_left(job.losses.unsigned_abs() as usize * 61 % group_size);
        group_size = 1;
    }
    let model = ModelChoice::from(target.model.clone());
    let mut range = EmbeddedRange::default();
    let mut chunks = chunks.into_iter().peekable();
    while chunks.peek().is_some() {
        let group: Vec<RangeChunk> = chunks.by_ref().take(group_size).collect();
        let texts = group.iter().map(|chunk| passage(&target, chunk)).collect();
        let purpose = TextPurpose::Passage;
        match embedding::embed(&model, texts, purpose, priority, deadline) {
            Ok(embedded) => range.add(group, embedded),
            Err(error) if range.chunks.is_empty() => {
                return Outcome::of_call("embed", &error, patience);
            }
            // It shows again the next time.
            Err(_) => break,
        }
    }
    match range.reason {
        Some(reason) if range.chunks.is_empty() => {
            Outcome::failed(Class::RecordPermanent, "embed", reason)
        }
        _ => {
            let (model, sha256) = (range.model, range.model_sha256);
            let vectors = SetVectors::new(job.embedding_set_id, model, sha256, range.vectors);
            Outcome::RangeEmbedded(range.chunks, Box::new(vectors))
        }
    }
}

/// What is done of a range.
#[derive(Default)]
struct EmbeddedRange {
    chunks: Vec<RangeChunk>,
    vectors: Vec<Vec<f32>>,
    model: String,
    model_sha256: String,
    /// Why the model refused one; that is left over, and fails alone the next time.
    reason: Option<String>,
}

impl EmbeddedRange {
    fn add(&mut self, chunks: Vec<RangeChunk>, embedded: Embedded) {
        (self.model, self.model_sha256) = (embedded.model, embedded.model_sha256);
        for (chunk, vector) in chunks.into_iter().zip(embedded.vectors) {
            match vector {
                Ok(vector) => {
                    self.chunks.push(chunk);
                    self.vectors.push(vector);
                }
                Err(problem) => self.reason = Some(problem),
            }
        }
    }
}

fn passage(target: &TargetSet, chunk: &RangeChunk) -> Text {
    let fields = ChunkFields {
        heading: &chunk.heading,
        date: &chunk.occurred_on,
        kind: &chunk.kind,
        content: &chunk.content,
    };
    Text {
        text: render(&target.template, fields),
        token_count: Some(chunk.token_count),
    }
}

/// Builds the index once all vectors are there.
pub fn build_index(transactions: &impl Transactions, job: &Job) -> Outcome {
    let steps = match load(transactions, || job_queue::index_build_steps(job)) {
        Ok(Some(steps)) => steps,
        Ok(None) => return Outcome::NotFilled,
        Err(outcome) => return outcome,
    };
    match load(transactions, || job_queue::has_failed_ranges(job)) {
        Ok(false) => {}
        Ok(true) => {
            let message = "some chunks of the embedding set could not be embedded";
            return Outcome::failed(Class::PipelinePermanent, "index", message);
        }
        Err(outcome) => return outcome,
    }
    let Some(set_id) = job.embedding_set_id.filter(|_| !steps.is_empty()) else {
        return Outcome::IndexBuilt;
    };
    match transactions.build_index(set_id, &steps) {
        Ok(()) => Outcome::IndexBuilt,
        Err(error) => Outcome::failed(of_database(error.code), "index", error.message),
    }
}
