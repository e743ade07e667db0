//! Tokenize, CountTokens and Chunk: short work on the text pool, not in a model's queue.

use proto::model::{ChunkingRequest, ModelChoice, TextBatch};
use proto::{limits, wire};

use crate::error::Error;
use crate::service::Service;
use crate::text;

impl Service {
    pub(super) async fn tokenize_texts(
        &self,
        request: wire::TokenizeRequest,
    ) -> Result<wire::TokenizeResponse, Error> {
        let texts = TextBatch::new(request.texts, limits::COUNT_TEXTS_MAX)?;
        let entry = self
            .open_catalog()?
            .any(&ModelChoice::from(request.model))?;
        let tokenizer = entry.tokenizer();
        let work = move || {
            let tokenizer = tokenizer.text();
            let sequence = |text: &String| {
                let ids = tokenizer.encode(text)?;
                let ids = match request.special_tokens {
                    true => tokenizer.with_special_tokens(&ids),
                    false => ids,
                };
                Ok(wire::TokenSequence { ids })
            };
            texts.as_slice().iter().map(sequence).collect()
        };
        let sequences = self.shared.text_pool.run(work).await?;
        Ok(wire::TokenizeResponse {
            sequences,
            model: entry.card().name.clone(),
        })
    }

    pub(super) async fn count_text_tokens(
        &self,
        request: wire::CountTokensRequest,
    ) -> Result<wire::CountTokensResponse, Error> {
        let texts = TextBatch::new(request.texts, limits::COUNT_TEXTS_MAX)?;
        let entry = self
            .open_catalog()?
            .any(&ModelChoice::from(request.model))?;
        let tokenizer = entry.tokenizer();
        let work = move || {
            let count = |text: &String| Ok(tokenizer.text().encode(text)?.len() as u32);
            texts.as_slice().iter().map(count).collect()
        };
        let token_counts = self.shared.text_pool.run(work).await?;
        Ok(wire::CountTokensResponse {
            token_counts,
            model: entry.card().name.clone(),
        })
    }

    pub(super) async fn chunk_text(
        &self,
        request: wire::ChunkRequest,
    ) -> Result<wire::ChunkResponse, Error> {
        let request = ChunkingRequest::try_from(request)?;
        let entry = self.open_catalog()?.any(&request.model)?;
        let tokenizer = entry.tokenizer();
        let special_tokens = tokenizer.text().special_token_count();
        let tokens_max = match request.tokens_max {
            Some(tokens_max) => tokens_max as usize,
            None => entry
                .card()
                .tokens_max
                .saturating_sub(special_tokens)
                .max(1),
        };
        let overlap_tokens = request.overlap_tokens as usize;
        if overlap_tokens >= tokens_max {
            return Err(Error::ChunkBudget { tokens_max });
        }
        let work = move || text::chunk(tokenizer.text(), &request.text, tokens_max, overlap_tokens);
        let ranges = self.shared.text_pool.run(work).await?;
        let chunks = ranges.into_iter().map(|range| wire::Chunk {
            start_char: range.start_char as u32,
            end_char: range.end_char as u32,
            token_count: range.token_count as u32,
        });
        Ok(wire::ChunkResponse {
            chunks: chunks.collect(),
            model: entry.card().name.clone(),
        })
    }
}
