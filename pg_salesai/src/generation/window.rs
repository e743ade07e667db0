//! How many tokens a model takes, and how many a text has.

use proto::limits::{self, BatchSize};
use proto::model::{GenerationRequest, ModelChoice, TextBatch};
use proto::wire::ModelKind;

use super::address::Address;
use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// The window of the model that a request is for.
pub struct Window {
    model: ModelChoice,
    /// Tokens of prompt and answer together.
    pub tokens_max: u32,
}

impl Window {
    /// None where nobody knows: another server has the model, or there is none.
    pub fn of(request: &GenerationRequest, deadline: Deadline) -> Result<Option<Self>, Error> {
        let address = Address::of(request)?;
        let model = sidecar::find_model(ModelKind::Language, address.model_name(), deadline)?;
        let local = model.filter(|model| !model.is_remote && model.tokens_max > 0);
        Ok(local.map(|model| Self {
            tokens_max: model.tokens_max,
            model: ModelChoice::Named(model.name),
        }))
    }

    /// Tokens of each text.
    pub fn count(&self, texts: Vec<String>, deadline: Deadline) -> Result<Vec<u32>, Error> {
        const REQUEST_SIZE: BatchSize = BatchSize {
            texts: limits::COUNT_TEXTS_MAX,
            bytes: limits::TEXT_BYTES_MAX,
            tokens: usize::MAX,
        };
        let size = |text: &String| BatchSize {
            texts: 1,
            bytes: text.len(),
            tokens: 0,
        };
        let ranges = limits::batches(texts.iter().map(size), REQUEST_SIZE);
        let mut texts = texts.into_iter();
        let mut counts = Vec::new();
        for range in ranges {
            let batch = texts.by_ref().take(range.len()).collect();
            let batch = TextBatch::new(batch, limits::COUNT_TEXTS_MAX)?;
            counts.extend(sidecar::call(deadline, async |client| {
                let model = self.model.clone();
                client
                    .count_tokens(model, batch, deadline.remaining())
                    .await
            })?);
        }
        Ok(counts)
    }
}
