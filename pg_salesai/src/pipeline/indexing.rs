//! Chunks and embeddings of a few interactions at once: model calls and pure rules, no database.

use domain::chunking::render;
use proto::model::{ModelChoice, Priority, TextPurpose};
use serde_json::{Value, json};

use super::chunks::{Chunk, Material, Tokenizer};
use super::embedding::{self, Embedded, Text};
use crate::error::Error;
use crate::sidecar::Deadline;

/// An embedding set that new chunks go into.
pub struct TargetSet {
    /// `None`: made when the first job is finished.
    pub set_id: Option<i64>,
    /// Empty: the sidecar's default.
    pub model: String,
    pub model_sha256: String,
    pub template: String,
}

/// What a job writes.
pub struct Index {
    chunks: Vec<Chunk>,
    /// For the active set.
    pub active: SetVectors,
    /// For sets that are being built.
    pub others: Vec<SetVectors>,
}

/// Vectors of the chunks that are not kept, in order.
pub struct SetVectors {
    pub set_id: Option<i64>,
    pub model: String,
    pub model_sha256: String,
    vectors: Vec<Vec<f32>>,
}

impl Index {
    /// As `salesai.finish_job` reads them.
    pub fn chunks_json(&self) -> Value {
        let mut vectors = 0..;
        self.chunks
            .iter()
            .map(|chunk| {
                let vector: Option<usize> = match chunk.is_kept {
                    true => None,
                    false => vectors.next(),
                };
                json!({
                    "first_position": chunk.first_position,
                    "last_position": chunk.last_position,
                    "start_char": chunk.start_char,
                    "end_char": chunk.end_char,
                    "token_count": chunk.token_count,
                    "heading": chunk.heading,
                    "content": chunk.content,
                    "vector": vector,
                })
            })
            .collect()
    }
}

impl SetVectors {
    pub fn new(
        set_id: Option<i64>,
        model: String,
        model_sha256: String,
        vectors: Vec<Vec<f32>>,
    ) -> Self {
        Self {
            set_id,
            model,
            model_sha256,
            vectors,
        }
    }

    /// All vectors end to end.
    pub fn values(&self) -> Vec<f32> {
        self.vectors.concat()
    }

    pub fn dimensions(&self) -> i32 {
        let dimensions = self.vectors.first().map_or(0, Vec::len);
        i32::try_from(dimensions).unwrap_or(i32::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }
}

/// Chunks each material and embeds what is new, for all `targets`, the active one first. The inner error is that of
/// one material; the outer one that of the sidecar, for all of them.
pub fn index(
    materials: &[&Material],
    targets: &[TargetSet],
    priority: Priority,
    deadline: &impl Fn() -> Deadline,
) -> Result<Vec<Result<Index, String>>, Error> {
    let Some((active, others)) = targets.split_first() else {
        return Ok(Vec::new());
    };
    let tokenizer = Tokenizer::new(active, others, deadline())?;
    let chunks = tokenizer.chunks(materials, deadline)?;
    let embedded = active.embed(materials, &chunks, priority, deadline)?;
    let mut indexes = distribute(active, chunks, embedded);
    for other in others {
        // What it does not get now, a job of its own will bring: a model that is built is nobody else's concern.
        let chunks = indexes.iter().map(|index| match index {
            Ok(index) => index.chunks.as_slice(),
            Err(_) => &[],
        });
        let chunks: Vec<&[Chunk]> = chunks.collect();
        match other.embed(materials, &chunks, priority, deadline) {
            Err(Error::Withdrawn) => return Err(Error::Withdrawn),
            Ok(embedded)
                if embedded.model_sha256 == other.model_sha256 || embedded.vectors.is_empty() =>
            {
                add_other(&mut indexes, other, embedded);
            }
            _ => {}
        }
    }
    Ok(indexes)
}

impl TargetSet {
    pub fn model_choice(&self) -> ModelChoice {
        ModelChoice::from(self.model.clone())
    }

    fn embed(
        &self,
        materials: &[&Material],
        chunks: &[impl AsRef<[Chunk]>],
        priority: Priority,
        deadline: &impl Fn() -> Deadline,
    ) -> Result<Embedded, Error> {
        let mut texts = Vec::new();
        for (material, chunks) in materials.iter().zip(chunks) {
            let new = chunks.as_ref().iter().filter(|chunk| !chunk.is_kept);
            texts.extend(new.map(|chunk| Text {
                text: render(
                    &self.template,
                    material.fields(&chunk.heading, &chunk.content),
                ),
                token_count: Some(chunk.token_count),
            }));
        }
        embedding::embed(
            &self.model_choice(),
            texts,
            TextPurpose::Passage,
            priority,
            deadline,
        )
    }

    fn vectors(&self, embedded: &Embedded, vectors: Vec<Vec<f32>>) -> SetVectors {
        let (model, sha256) = (embedded.model.clone(), embedded.model_sha256.clone());
        SetVectors::new(self.set_id, model, sha256, vectors)
    }
}

/// Gives each material its vectors, or the reason of the first that is missing.
fn distribute(
    active: &TargetSet,
    chunks: Vec<Vec<Chunk>>,
    mut embedded: Embedded,
) -> Vec<Result<Index, String>> {
    let mut vectors = std::mem::take(&mut embedded.vectors).into_iter();
    chunks
        .into_iter()
        .map(|chunks| {
            let count = chunks.iter().filter(|chunk| !chunk.is_kept).count();
            // All are taken before the first error is looked for, so that the others keep theirs.
            let own: Vec<_> = vectors.by_ref().take(count).collect();
            Ok(Index {
                chunks,
                active: active.vectors(&embedded, own.into_iter().collect::<Result<_, _>>()?),
                others: Vec::new(),
            })
        })
        .collect()
}

fn add_other(indexes: &mut [Result<Index, String>], other: &TargetSet, mut embedded: Embedded) {
    let mut vectors = std::mem::take(&mut embedded.vectors).into_iter();
    for index in indexes.iter_mut().flatten() {
        let count = index.chunks.iter().filter(|chunk| !chunk.is_kept).count();
        let own: Vec<_> = vectors.by_ref().take(count).collect();
        if let Ok(own) = own.into_iter().collect::<Result<_, _>>() {
            index.others.push(other.vectors(&embedded, own));
        }
    }
}
