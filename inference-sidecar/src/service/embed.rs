//! Embed: tokenises on the text pool, then waits for the model's worker.

use std::sync::Arc;

use proto::model::{EmbeddingRequest, TextBatch, TextPurpose};
use proto::wire;
use tonic::Request;

use crate::catalog::EmbeddingEntry;
use crate::error::Error;
use crate::scheduler::{Call, EmbeddingJob, EmbeddingOutcome, JobQueue};
use crate::service::{Service, request};
use crate::text::TextTokenizer;

/// A text as the model will see it.
enum PreparedText {
    Blank,
    Tokens {
        tokens: Vec<u32>,
        token_count: u32,
        truncated: bool,
    },
}

impl Service {
    pub(super) async fn embed_texts(
        &self,
        request: Request<wire::EmbedRequest>,
    ) -> Result<wire::EmbedResponse, Error> {
        let (metadata, _, message) = request.into_parts();
        let request = EmbeddingRequest::try_from(message)?;
        let entry = self.open_catalog()?.embedding(&request.model)?;
        let call = request::call(&metadata, &entry.card.name, request.priority);

        let mut prepared = self.prepare(entry, request.texts, request.purpose).await?;
        let sequences: Vec<Vec<u32>> = prepared
            .iter_mut()
            .filter_map(PreparedText::take_tokens)
            .collect();
        let outcome = self.run_sequences(&entry.queue, call, sequences).await?;
        let truncated = prepared.iter().filter(|text| text.is_truncated()).count();
        let metrics = self.shared.metrics.embedding(&entry.card.name);
        metrics.truncated(truncated);
        Ok(response(entry, prepared, outcome))
    }

    /// Waits for the worker behind `queue`, and counts what it did.
    pub(super) async fn run_sequences(
        &self,
        queue: &JobQueue<EmbeddingJob>,
        call: Call,
        sequences: Vec<Vec<u32>>,
    ) -> Result<EmbeddingOutcome, Error> {
        let metrics = self.shared.metrics.embedding(&call.model);
        let text_count = sequences.len();
        let token_count = sequences.iter().map(Vec::len).sum();
        let (job, outcome) = EmbeddingJob::new(call, sequences);
        queue.push(job)?;
        queue.metrics().set_waiting(queue.len());
        let outcome = outcome.await.map_err(|_| Error::WorkerPanicked)??;
        metrics.embedded(text_count, token_count);
        Ok(outcome)
    }

    async fn prepare(
        &self,
        entry: &EmbeddingEntry,
        texts: TextBatch,
        purpose: TextPurpose,
    ) -> Result<Vec<PreparedText>, Error> {
        let tokenizer: Arc<TextTokenizer> = entry.tokenizer.clone();
        let tokens_max = entry.card.tokens_max;
        let work = move || {
            let prepare = |text: &String| prepare_text(&tokenizer, text, purpose, tokens_max);
            texts.as_slice().iter().map(prepare).collect()
        };
        self.shared.text_pool.run(work).await
    }
}

impl PreparedText {
    fn is_truncated(&self) -> bool {
        matches!(
            self,
            PreparedText::Tokens {
                truncated: true,
                ..
            }
        )
    }

    fn take_tokens(&mut self) -> Option<Vec<u32>> {
        match self {
            PreparedText::Blank => None,
            PreparedText::Tokens { tokens, .. } => Some(std::mem::take(tokens)),
        }
    }
}

fn prepare_text(
    tokenizer: &TextTokenizer,
    text: &str,
    purpose: TextPurpose,
    tokens_max: usize,
) -> Result<PreparedText, Error> {
    let mut tokens = tokenizer.encode_for(purpose, text)?;
    // Control characters and the like: nothing is left that has a meaning.
    if tokens.is_empty() {
        return Ok(PreparedText::Blank);
    }
    let token_count = (tokens.len() + tokenizer.special_token_count()) as u32;
    let truncated = token_count as usize > tokens_max;
    tokens.truncate(tokens_max.saturating_sub(tokenizer.special_token_count()));
    let tokens = tokenizer.with_special_tokens(&tokens);
    Ok(PreparedText::Tokens {
        tokens,
        token_count,
        truncated,
    })
}

fn response(
    entry: &EmbeddingEntry,
    prepared: Vec<PreparedText>,
    outcome: EmbeddingOutcome,
) -> wire::EmbedResponse {
    let mut vectors = outcome.vectors.into_iter();
    let embeddings = prepared.into_iter().map(|text| match text {
        PreparedText::Blank => wire::Embedding {
            error: "the text is empty".into(),
            ..Default::default()
        },
        PreparedText::Tokens {
            token_count,
            truncated,
            ..
        } => wire::Embedding {
            values: vectors
                .next()
                .expect("one vector per text that is not blank"),
            token_count,
            truncated,
            error: String::new(),
        },
    });
    wire::EmbedResponse {
        embeddings: embeddings.collect(),
        model: entry.card.name.clone(),
        model_sha256: entry.card.sha256.clone(),
        queue_ms: outcome.queue_ms,
        compute_ms: outcome.compute_ms,
    }
}
