//! Rerank: tokenises on the text pool, then waits for the model's worker.

use proto::model::RerankingRequest;
use proto::wire;
use tonic::Request;

use crate::error::Error;
use crate::service::{Service, request};
use crate::text::TextTokenizer;

impl Service {
    pub(super) async fn rerank_passages(
        &self,
        request: Request<wire::RerankRequest>,
    ) -> Result<wire::RerankResponse, Error> {
        let (metadata, _, message) = request.into_parts();
        let request = RerankingRequest::try_from(message)?;
        let entry = self.open_catalog()?.reranking(&request.model)?;
        let call = request::call(&metadata, &entry.card.name, request.priority);

        let (tokenizer, tokens_max) = (entry.tokenizer.clone(), entry.card.tokens_max);
        let work = move || pairs(&tokenizer, &request, tokens_max);
        let sequences = self.shared.text_pool.run(work).await?;
        let outcome = self.run_sequences(&entry.queue, call, sequences).await?;
        Ok(wire::RerankResponse {
            scores: outcome.vectors.concat(),
            model: entry.card.name.clone(),
            model_sha256: entry.card.sha256.clone(),
            queue_ms: outcome.queue_ms,
            compute_ms: outcome.compute_ms,
        })
    }
}

/// The query with each passage, as the model will see them.
fn pairs(
    tokenizer: &TextTokenizer,
    request: &RerankingRequest,
    tokens_max: usize,
) -> Result<Vec<Vec<u32>>, Error> {
    let budget = tokens_max.saturating_sub(tokenizer.special_token_count_of_pair());
    let query = tokenizer.without_frame(tokenizer.encode(&request.query)?);
    let pair = |passage: &String| {
        let passage = tokenizer.without_frame(tokenizer.encode(passage)?);
        let (of_query, of_passage) = shares(query.len(), passage.len(), budget);
        Ok(tokenizer.with_special_tokens_of_pair(&query[..of_query], &passage[..of_passage]))
    };
    request.passages.as_slice().iter().map(pair).collect()
}

/// How many tokens of two texts are kept, so that they fit: the longer one is cut first, down to the shorter one
/// ("longest first" in transformers).
fn shares(first: usize, second: usize, budget: usize) -> (usize, usize) {
    let half = budget / 2;
    let kept = first.min(budget.saturating_sub(second).max(half));
    (kept, second.min(budget - kept))
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn the_longer_text_is_cut() {
        for ((first, second), kept) in [
            ((3, 5), (3, 5)),
            ((3, 50), (3, 7)),
            ((50, 3), (7, 3)),
            ((50, 60), (5, 5)),
            ((0, 0), (0, 0)),
        ] {
            assert_eq!(shares(first, second, 10), kept, "{first} {second}");
        }
    }
}
