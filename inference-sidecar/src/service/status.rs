//! GetStatus and ListModels: never queued.

use proto::wire;

use crate::catalog::ModelCard;
use crate::error::Error;
use crate::metrics::resident_bytes;
use crate::service::Service;

impl Service {
    pub(super) fn status(&self) -> wire::GetStatusResponse {
        let load = self.counters().load();
        wire::GetStatusResponse {
            state: self.readiness().state().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.shared.started.elapsed().as_secs(),
            running_requests: load.running,
            waiting_requests: load.waiting,
            waiting_requests_max: load.waiting_max,
            resident_bytes: resident_bytes().unwrap_or(0),
            refused_requests: load.refused,
            generation_steps: load.generation_steps,
            cancelled_requests: load.cancelled,
            kv_blocks_total: load.kv.total as u64,
            kv_blocks_used: load.kv.used as u64,
            kv_blocks_cached: load.kv.cached as u64,
            prefix_hit_tokens: load.prefix_hit_tokens,
            preempted_sequences: load.preempted,
        }
    }

    pub(super) fn models(&self) -> Result<wire::ListModelsResponse, Error> {
        let catalog = self.open_catalog()?;
        let embedding = catalog
            .embedding
            .iter()
            .enumerate()
            .map(|(index, entry)| wire::Model {
                kind: wire::ModelKind::Embedding.into(),
                dimensions: entry.dimensions as u32,
                passage_added_tokens: entry.tokenizer.passage_added_tokens() as u32,
                is_default: index == 0,
                ..card(&entry.card)
            });
        let reranking = catalog
            .reranking
            .iter()
            .enumerate()
            .map(|(index, entry)| wire::Model {
                kind: wire::ModelKind::Reranking.into(),
                is_default: index == 0,
                ..card(&entry.card)
            });
        let language = catalog
            .language
            .iter()
            .enumerate()
            .map(|(index, entry)| wire::Model {
                kind: wire::ModelKind::Language.into(),
                is_default: index == 0,
                ..card(&entry.card)
            });
        let has_language = !catalog.language.is_empty();
        let routed = self
            .router()
            .models()
            .enumerate()
            .map(|(index, model)| wire::Model {
                name: model.name,
                kind: wire::ModelKind::Language.into(),
                tokens_max: model.tokens_max,
                is_default: index == 0 && !has_language,
                is_remote: true,
                ..wire::Model::default()
            });
        Ok(wire::ListModelsResponse {
            models: embedding
                .chain(reranking)
                .chain(language)
                .chain(routed)
                .collect(),
        })
    }
}

fn card(card: &ModelCard) -> wire::Model {
    wire::Model {
        name: card.name.clone(),
        tokens_max: card.tokens_max as u32,
        sha256: card.sha256.clone(),
        weight_bytes: card.weight_bytes,
        ..wire::Model::default()
    }
}
