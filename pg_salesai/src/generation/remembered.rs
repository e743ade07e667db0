//! Texts that were generated before, for the same caller, by the same weights.

use proto::model::GenerationRequest;
use proto::wire::{FinishReason, GenerateFinished, GenerateStarted, ModelKind};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::batch::Draft;
use crate::error::Error;
use crate::result_cache::{self, Key, ResultCache};
use crate::sidecar::{Deadline, Served};
use crate::usage::{self, Measure};

/// The texts of a batch, by the digest of what each is asked for.
pub struct Remembered {
    cache: ResultCache,
    keys: Vec<Key>,
    served: Served,
    adapter_generation: u64,
}

/// A text as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// When the sidecar that wrote it had started.
    started_s: u64,
    text: String,
    model: String,
    prompt_tokens: u32,
    completion_tokens: u32,
    finish_reason: i32,
}

impl Remembered {
    /// None where nothing may be used again: it is turned off, or another server has the model, whose weights may
    /// change unseen.
    pub fn of(
        address: &Address,
        requests: impl Iterator<Item = GenerationRequest>,
        deadline: Deadline,
    ) -> Result<Option<Self>, Error> {
        let Some(cache) = ResultCache::open()? else {
            return Ok(None);
        };
        let Some(served) = Served::find(ModelKind::Language, address.model_name(), deadline)?
        else {
            return Ok(None);
        };
        let adapter_generation = match &address.adapter {
            Some(adapter) => match adapter.generation {
                Some(generation) => generation,
                None => return Ok(None),
            },
            None => 0,
        };
        let key = |request: GenerationRequest| {
            let request = address.put_on(request).encoded();
            result_cache::key("text 1", [served.sha256.as_bytes(), &request])
        };
        Ok(Some(Self {
            keys: requests.map(key).collect(),
            cache,
            served,
            adapter_generation,
        }))
    }

    /// Those that are known, in the order of the requests.
    pub fn drafts(&self) -> Result<Vec<Option<Draft>>, Error> {
        let found = self.cache.read(&self.keys)?;
        let drafts = self.keys.iter().map(|key| {
            let kept = found.get(key)?.iter();
            let mut kept = kept.filter_map(|kept| serde_json::from_slice::<Kept>(kept).ok());
            let kept = kept.find(|kept| self.served.has_started(kept.started_s))?;
            Some(Draft {
                text: kept.text,
                started: GenerateStarted {
                    model: kept.model,
                    model_sha256: self.served.sha256.clone(),
                    prompt_tokens: kept.prompt_tokens,
                    adapter_generation: self.adapter_generation,
                    ..GenerateStarted::default()
                },
                finished: GenerateFinished {
                    completion_tokens: kept.completion_tokens,
                    reason: kept.finish_reason,
                    ..GenerateFinished::default()
                },
                is_remembered: true,
            })
        });
        let drafts: Vec<Option<Draft>> = drafts.collect();
        usage::count(Measure::Remembered, drafts.iter().flatten().count());
        Ok(drafts)
    }

    /// Keeps what was generated now, by the weights and the adapter that it was looked for.
    pub fn keep<'a>(&self, drafts: impl Iterator<Item = Option<&'a Draft>>) -> Result<(), Error> {
        let is_new = |draft: &&Draft| {
            !draft.is_remembered
                && draft.finished.reason() != FinishReason::Unspecified
                && draft.started.model_sha256 == self.served.sha256
                && draft.started.adapter_generation == self.adapter_generation
        };
        let results = self.keys.iter().zip(drafts).filter_map(|(key, draft)| {
            let draft = draft.filter(is_new)?;
            let kept = Kept {
                started_s: self.served.started_s,
                text: draft.text.clone(),
                model: draft.started.model.clone(),
                prompt_tokens: draft.started.prompt_tokens,
                completion_tokens: draft.finished.completion_tokens,
                finish_reason: draft.finished.reason,
            };
            Some((key.clone(), serde_json::to_vec(&kept).ok()?))
        });
        self.cache.write(results.collect())
    }
}
