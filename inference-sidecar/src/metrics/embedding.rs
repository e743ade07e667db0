//! What the worker of an embedding or reranking model records.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{self, Counters};
use super::requests::{RequestFamilies, RequestMetrics};

/// The numbers of one such model.
#[derive(Debug, Clone)]
pub struct EmbeddingMetrics {
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    requests: RequestMetrics,
    texts: Counter,
    tokens: Counter,
    truncated: Counter,
}

pub(super) struct EmbeddingFamilies {
    texts: Counters,
    tokens: Counters,
    truncated: Counters,
}

impl EmbeddingMetrics {
    /// Running, waiting, queue time, ends.
    pub fn requests(&self) -> &RequestMetrics {
        &self.handles.requests
    }

    /// `texts` of `tokens` together, special tokens included, have become vectors or scores.
    pub fn embedded(&self, texts: usize, tokens: usize) {
        self.handles.texts.inc_by(texts as u64);
        self.handles.tokens.inc_by(tokens as u64);
    }

    /// The tail of `texts` did not count, because they were longer than the model takes.
    pub fn truncated(&self, texts: usize) {
        self.handles.truncated.inc_by(texts as u64);
    }
}

impl EmbeddingFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            texts: families::counters(
                registry,
                "embedding_texts",
                "Texts that became vectors or scores",
            ),
            tokens: families::counters(
                registry,
                "embedding_tokens",
                "Tokens of these texts as the model saw them, special tokens included",
            ),
            truncated: families::counters(
                registry,
                "embedding_truncated_texts",
                "Texts whose tail did not count, because they were longer than the model takes",
            ),
        }
    }

    pub(super) fn handles(&self, requests: &RequestFamilies, model: &str) -> EmbeddingMetrics {
        let labels = vec![("model", model.to_owned())];
        let handles = Handles {
            requests: requests.handles(model),
            texts: self.texts.get_or_create_owned(&labels),
            tokens: self.tokens.get_or_create_owned(&labels),
            truncated: self.truncated.get_or_create_owned(&labels),
        };
        EmbeddingMetrics {
            handles: Arc::new(handles),
        }
    }
}
