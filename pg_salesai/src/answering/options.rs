//! How an answer is made.

use domain::answer::Prompt;
use proto::model::{GenerationRequest, Sampling};
use serde::Deserialize;

use crate::error::Error;
use crate::generation::Prompted;

/// Options of one answer, as `salesai.insight` gives them.
#[derive(Deserialize)]
pub struct Options {
    pub model: Option<String>,
    pub adapter: Option<String>,
    pub timeout_ms: Option<i32>,
    max_tokens: Option<i32>,
    #[serde(default)]
    seed: i64,
    pub method: Option<Method>,
    /// Version of the prompt template; None: the active one.
    pub prompt_version: Option<i32>,
}

/// The only way in which the answer may come about.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Generated,
    Extractive,
}

impl Options {
    /// What the model is asked.
    pub fn request(&self, prompt: Prompt) -> Result<GenerationRequest, Error> {
        let tokens_max = self.max_tokens.unwrap_or(96);
        let tokens_max = u32::try_from(tokens_max).ok().filter(|&tokens| tokens > 0);
        Ok(GenerationRequest {
            // Facts are asked for, not ideas: the likeliest text, reproducible. The seed is kept with the
            // answer for models that sample.
            sampling: match self.seed {
                0 => Sampling::GREEDY,
                seed => Sampling::nucleus(0.7, 0.9, seed.unsigned_abs()),
            },
            ..Prompted {
                model: self.model.clone(),
                adapter: self.adapter.clone(),
                system: prompt.system,
                user: prompt.user,
                tokens_max: tokens_max
                    .ok_or_else(|| Error::argument("max_tokens must be at least 1"))?,
            }
            .into()
        })
    }

    /// Whether nobody named a model or an adapter.
    pub fn leaves_model_open(&self) -> bool {
        self.model.is_none() && self.adapter.is_none()
    }
}
