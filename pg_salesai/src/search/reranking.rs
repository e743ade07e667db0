//! How well passages fit a query, by a cross-encoder of the sidecar.

use proto::limits::{self, BatchSize};
use proto::model::{ModelChoice, Priority, RerankingRequest, TextBatch};

use crate::adapters::registry;
use crate::error::Error;
use crate::sidecar::{self, Deadline};
use crate::usage::{self, Measure};

/// What one request takes.
const REQUEST_SIZE: BatchSize = BatchSize {
    texts: limits::RERANK_PASSAGES_MAX,
    bytes: limits::TEXT_BYTES_MAX,
    tokens: usize::MAX,
};

/// A logit for each passage, in order.
pub fn scores(
    model: &ModelChoice,
    query: &str,
    passages: Vec<String>,
    deadline: Deadline,
) -> Result<Vec<f32>, Error> {
    let caller = registry::caller()?;
    let sizes = passages.iter().map(|passage| BatchSize {
        texts: 1,
        bytes: passage.len(),
        tokens: 0,
    });
    let ranges = limits::batches(sizes, REQUEST_SIZE);
    let mut passages = passages.into_iter();
    let mut scores = Vec::with_capacity(passages.len());
    for range in ranges {
        let batch = passages.by_ref().take(range.len()).collect();
        let request = RerankingRequest {
            model: model.clone(),
            query: query.to_owned(),
            passages: TextBatch::new(batch, limits::RERANK_PASSAGES_MAX)?,
            priority: Priority::Interactive,
            caller: caller.clone(),
        };
        usage::count(Measure::Calls, 1);
        let response = sidecar::call(deadline, async |client| {
            client.rerank(request, deadline.remaining()).await
        })?;
        usage::count(Measure::RerankedTexts, response.scores.len());
        scores.extend(response.scores);
    }
    Ok(scores)
}
