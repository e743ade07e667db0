//! Jobs of an embedding set that is being built: its vectors, range by range, and then its index.

use domain::chunking::{ChunkFields, render};
use proto::model::{ModelChoice, Priority, TextPurpose};

use super::Transactions;
use super::embedding::{self, Text};
use super::indexing::SetVectors;
use super::job_queue::{self, Job};
use super::outcome::{Class, Outcome, load, of_database};
use crate::sidecar::Deadline;

/// Embeds what a range of chunks lacks.
pub fn embed_range(
    transactions: &impl Transactions,
    job: &Job,
    priority: Priority,
    deadline: &impl Fn() -> Deadline,
) -> Outcome {
    let (target, chunks) = match load(transactions, || job_queue::range_chunks(job)) {
        Ok(Some(range)) => range,
        // The set was dropped, and the job with it.
        Ok(None) => return Outcome::NotFilled,
        Err(outcome) => return outcome,
    };
    let texts: Vec<Text> = chunks
        .iter()
        .map(|chunk| {
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
        })
        .collect();
    let model = ModelChoice::from(target.model);
    let embedded = match embedding::embed(&model, texts, TextPurpose::Passage, priority, deadline) {
        Ok(embedded) => embedded,
        Err(error) => return Outcome::of_call("embed", &error),
    };
    // What the model refuses is left over, and fails alone the next time.
    let (mut done, mut vectors, mut reason) = (Vec::new(), Vec::new(), None);
    for (chunk, vector) in chunks.into_iter().zip(embedded.vectors) {
        match vector {
            Ok(vector) => {
                done.push(chunk);
                vectors.push(vector);
            }
            Err(problem) => reason = Some(problem),
        }
    }
    match reason {
        Some(reason) if done.is_empty() => Outcome::failed(Class::RecordPermanent, "embed", reason),
        _ => {
            let (model, sha256) = (embedded.model, embedded.model_sha256);
            let vectors = SetVectors::new(job.embedding_set_id, model, sha256, vectors);
            Outcome::RangeEmbedded(done, Box::new(vectors))
        }
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
