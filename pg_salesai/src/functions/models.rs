//! Embeddings, token counts and chunks, straight from the sidecar.

use pgrx::JsonB;
use pgrx::iter::{SetOfIterator, TableIterator};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use proto::client::ClientError;
use proto::limits;
use proto::model::{ChunkingRequest, ModelChoice, Priority, TextBatch, TextPurpose};
use proto::wire::{Adapter, GetStatusResponse, Model, ModelKind, ServerState};
use serde_json::{Value, json};

use crate::answering::Near;
use crate::error::Error;
use crate::pipeline::embedding::{self, Embedded, RememberedVector, Text};
use crate::sidecar::{self, Deadline};

type ChunkRow = (i32, i32, i32, i32, String);

#[pg_extern(sql = "")]
fn embedding_values(
    texts: Option<Vec<Option<String>>>,
    timeout_ms: Option<i32>,
) -> Result<SetOfIterator<'static, Vec<f32>>, ErrorReport> {
    let embedded = embedded(
        ModelChoice::Default,
        texts,
        TextPurpose::Unspecified,
        timeout_ms,
    )?;
    let vectors = embedded.into_vectors()?;
    Ok(SetOfIterator::new(vectors))
}

#[pg_extern(sql = "")]
fn model_embedding_values(
    model: Option<String>,
    texts: Option<Vec<Option<String>>>,
    timeout_ms: Option<i32>,
    model_sha256: Option<String>,
) -> Result<SetOfIterator<'static, Vec<f32>>, ErrorReport> {
    if let (Some([Some(text)]), Some(wanted)) = (texts.as_deref(), &model_sha256)
        && let Some(vector) = RememberedVector::of(wanted, text)?.read()?
    {
        return Ok(SetOfIterator::new(vec![vector]));
    }
    let model = ModelChoice::from(model.unwrap_or_default());
    let embedded = embedded(model, texts, TextPurpose::Query, timeout_ms)?;
    if let Some(wanted) = model_sha256.filter(|wanted| *wanted != embedded.model_sha256) {
        return Err(Error::OtherWeights {
            model: embedded.model,
            served: embedded.model_sha256,
            wanted,
        }
        .into());
    }
    Ok(SetOfIterator::new(embedded.into_vectors()?))
}

#[pg_extern(sql = "")]
fn query_similarities(
    query: Option<&str>,
    documents: Option<Vec<Option<String>>>,
    timeout_ms: Option<i32>,
) -> Result<Option<Vec<f32>>, ErrorReport> {
    let (Some(query), Some(documents)) = (query, documents) else {
        return Ok(None);
    };
    let deadline = Deadline::from_argument(timeout_ms)?;
    let near = Near::to(query, not_null(documents)?, deadline)?;
    let near = near.ok_or_else(|| {
        Error::Sidecar(ClientError::Unavailable {
            detail: "The sidecar has other weights since it was asked about the query.".to_owned(),
        })
    })?;
    Ok(Some(near.cosines))
}

#[pg_extern(sql = "")]
fn token_count(content: &str) -> Result<i32, ErrorReport> {
    let texts =
        TextBatch::new(vec![content.to_owned()], limits::COUNT_TEXTS_MAX).map_err(Error::from)?;
    let deadline = Deadline::from_argument(None)?;
    let counts = sidecar::call(deadline, async |client| {
        client
            .count_tokens(ModelChoice::Default, texts, deadline.remaining())
            .await
    })?;
    Ok(counts.first().map_or(0, |&count| integer(count)))
}

#[pg_extern(sql = "")]
fn chunk(
    content: Option<&str>,
    max_tokens: Option<i32>,
    overlap_tokens: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(position, i32),
            name!(start_char, i32),
            name!(end_char, i32),
            name!(token_count, i32),
            name!(content, String),
        ),
    >,
    ErrorReport,
> {
    let rows = chunk_rows(content.unwrap_or_default(), max_tokens, overlap_tokens)?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = "")]
fn sidecar_state() -> Result<JsonB, ErrorReport> {
    let deadline = Deadline::from_argument(None)?;
    let answer = sidecar::call(deadline, async |client| {
        let status = client.status(deadline.remaining()).await?;
        let models = client.models(deadline.remaining()).await?;
        // A sidecar of before adapters came does not know the question.
        let adapters = client.adapters(deadline.remaining()).await.ok();
        Ok((status, models, adapters))
    });
    Ok(JsonB(match answer {
        Ok((status, models, adapters)) => state_json(&status, &models, adapters.as_deref()),
        Err(error) => json!({ "error": error.to_string() }),
    }))
}

fn embedded(
    model: ModelChoice,
    texts: Option<Vec<Option<String>>>,
    purpose: TextPurpose,
    timeout_ms: Option<i32>,
) -> Result<Embedded, Error> {
    let texts = not_null(texts.unwrap_or_default())?;
    let texts = texts.into_iter().map(Text::from).collect();
    let deadline = Deadline::from_argument(timeout_ms)?;
    embedding::embed(&model, texts, purpose, Priority::Interactive, || deadline)
}

pub(super) fn not_null(texts: Vec<Option<String>>) -> Result<Vec<String>, Error> {
    texts
        .into_iter()
        .collect::<Option<Vec<String>>>()
        .ok_or_else(|| Error::argument("texts must not contain NULL"))
}

fn chunk_rows(
    content: &str,
    max_tokens: Option<i32>,
    overlap_tokens: Option<i32>,
) -> Result<Vec<ChunkRow>, Error> {
    let positive = |value: i32| {
        u32::try_from(value).map_err(|_| Error::argument("token counts must not be negative"))
    };
    let message = proto::wire::ChunkRequest {
        model: String::new(),
        text: content.to_owned(),
        tokens_max: max_tokens.map(positive).transpose()?.unwrap_or(0),
        overlap_tokens: positive(overlap_tokens.unwrap_or(0))?,
    };
    let request = ChunkingRequest::try_from(message)?;
    let deadline = Deadline::from_argument(None)?;
    let chunks = sidecar::call(deadline, async |client| {
        client.chunk(request, deadline.remaining()).await
    })?;
    let characters: Vec<char> = content.chars().collect();
    Ok(chunks
        .iter()
        .enumerate()
        .map(|(position, chunk)| {
            let range = chunk.start_char as usize..chunk.end_char as usize;
            let piece = characters.get(range).unwrap_or_default().iter().collect();
            let position = i32::try_from(position).unwrap_or(i32::MAX);
            let (start, end) = (integer(chunk.start_char), integer(chunk.end_char));
            (position, start, end, integer(chunk.token_count), piece)
        })
        .collect())
}

fn state_json(status: &GetStatusResponse, models: &[Model], adapters: Option<&[Adapter]>) -> Value {
    json!({
        "state": match status.state() {
            ServerState::Ready => "ready",
            ServerState::Stopping => "stopping",
            ServerState::Starting | ServerState::Unspecified => "starting",
        },
        "version": status.version,
        "uptime_seconds": status.uptime_seconds,
        "running_requests": status.running_requests,
        "waiting_requests": status.waiting_requests,
        "waiting_requests_max": status.waiting_requests_max,
        "resident_bytes": status.resident_bytes,
        "refused_requests": status.refused_requests,
        "generation_steps": status.generation_steps,
        "cancelled_requests": status.cancelled_requests,
        "kv_blocks_total": status.kv_blocks_total,
        "kv_blocks_used": status.kv_blocks_used,
        "kv_blocks_cached": status.kv_blocks_cached,
        "prefix_hit_tokens": status.prefix_hit_tokens,
        "preempted_sequences": status.preempted_sequences,
        "models": models.iter().map(model_json).collect::<Vec<_>>(),
        "adapters": adapters.map(|all| all.iter().map(adapter_json).collect::<Vec<_>>()),
    })
}

fn model_json(model: &Model) -> Value {
    json!({
        "name": model.name,
        "kind": match model.kind() {
            ModelKind::Embedding => "embedding",
            ModelKind::Language => "language",
            ModelKind::Reranking => "reranking",
            ModelKind::Unspecified => "unknown",
        },
        "dimensions": model.dimensions,
        "tokens_max": model.tokens_max,
        "sha256": model.sha256,
        "weight_bytes": model.weight_bytes,
        "is_default": model.is_default,
        "is_remote": model.is_remote,
    })
}

fn adapter_json(adapter: &Adapter) -> Value {
    json!({
        "name": adapter.name,
        "generation": adapter.generation,
        "model": adapter.model,
        "sha256": adapter.sha256,
        "rank": adapter.rank,
        "bytes": adapter.bytes,
        "running_sequences": adapter.running_sequences,
    })
}

fn integer(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
