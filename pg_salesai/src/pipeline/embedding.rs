//! Embedding any number of texts, in requests that keep the contract's limits.

use std::time::Duration;

use proto::client::ClientError;
use proto::limits::{self, BatchSize};
use proto::model::{EmbeddingRequest, ModelChoice, Priority, TextBatch, TextPurpose};
use proto::wire::ServerState;

use crate::adapters::registry;
use crate::error::Error;
use crate::result_cache::{self, Key, ResultCache};
use crate::sidecar::{self, Deadline};
use crate::usage::{self, Measure};

/// One request: enough to fill the model's batches, little enough to be done in seconds.
const REQUEST_SIZE: BatchSize = BatchSize {
    texts: limits::EMBED_TEXTS_MAX,
    bytes: limits::TEXT_BYTES_MAX,
    tokens: 8_192,
};
/// What a text counts for that nobody counted.
const TOKENS_UNCOUNTED: usize = 128;

/// Embeddings in the order of the texts, and what made them.
#[derive(Debug, Default)]
pub struct Embedded {
    /// A vector, or why that text has none.
    pub vectors: Vec<Result<Vec<f32>, String>>,
    pub model: String,
    pub model_sha256: String,
}

impl Embedded {
    /// All vectors; fails with the first text that has none.
    pub fn into_vectors(self) -> Result<Vec<Vec<f32>>, Error> {
        self.vectors
            .into_iter()
            .enumerate()
            .map(|(index, vector)| {
                vector.map_err(|reason| Error::Embedding {
                    position: index + 1,
                    reason,
                })
            })
            .collect()
    }
}

/// A text, and how many tokens it has as far as that is known.
pub struct Text {
    pub text: String,
    pub token_count: Option<u32>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self {
            text,
            token_count: None,
        }
    }
}

impl Text {
    fn size(&self) -> BatchSize {
        let tokens = self
            .token_count
            .and_then(|count| usize::try_from(count).ok());
        BatchSize {
            texts: 1,
            bytes: self.text.len(),
            tokens: tokens.unwrap_or(TOKENS_UNCOUNTED),
        }
    }
}

/// Embeds all texts; each request gets its own deadline.
pub fn embed(
    model: &ModelChoice,
    texts: Vec<Text>,
    purpose: TextPurpose,
    priority: Priority,
    deadline: impl Fn() -> Deadline,
) -> Result<Embedded, Error> {
    let mut embedded = Embedded::default();
    // Background work counts as one caller.
    let caller = match priority {
        Priority::Interactive => registry::caller()?,
        Priority::Background => String::new(),
    };
    let ranges = limits::batches(texts.iter().map(Text::size), REQUEST_SIZE);
    let mut texts = texts.into_iter().map(|text| text.text);
    for range in ranges {
        let batch = texts.by_ref().take(range.len()).collect();
        let texts = TextBatch::new(batch, limits::EMBED_TEXTS_MAX)?;
        let request = EmbeddingRequest {
            model: model.clone(),
            texts,
            priority,
            purpose,
            caller: caller.clone(),
        };
        let deadline = deadline();
        usage::count(Measure::Calls, 1);
        let response = sidecar::call(deadline, async |client| {
            client.embed(request, deadline.remaining()).await
        })?;
        let vectors = response.embeddings.into_iter().map(|item| {
            if !item.error.is_empty() {
                return Err(item.error);
            }
            usage::count(Measure::EmbeddedTexts, 1);
            usage::count(Measure::EmbeddedTokens, item.token_count);
            Ok(item.values)
        });
        embedded.vectors.extend(vectors);
        embedded.model = response.model;
        embedded.model_sha256 = response.model_sha256;
    }
    Ok(embedded)
}

/// The vector of a question that somebody with the same rights has embedded before.
pub struct RememberedVector(Key);

impl RememberedVector {
    pub fn of(model_sha256: &str, question: &str) -> Result<Self, Error> {
        let salt = registry::context(None, None)?.cache_salt;
        let parts = [model_sha256.as_bytes(), &salt, question.as_bytes()];
        Ok(Self(result_cache::key("question 1", parts)))
    }

    /// None where it is not there, or nothing may be used again.
    pub fn read(&self) -> Result<Option<Vec<f32>>, Error> {
        let Some(cache) = ResultCache::open()? else {
            return Ok(None);
        };
        let found = cache.read(std::slice::from_ref(&self.0))?;
        let kept = found.get(&self.0).and_then(|kept| kept.first());
        usage::count(Measure::Remembered, i64::from(kept.is_some()));
        Ok(kept.map(|bytes| floats(bytes)))
    }

    /// What the cache keeps.
    pub fn with(self, vector: &[f32]) -> (Key, Vec<u8>) {
        (self.0, bytes(vector))
    }
}

/// Embeds a question, unless its vector is remembered, and has it remembered.
pub fn remember(
    question: &str,
    model: &str,
    model_sha256: &str,
    deadline: impl Fn() -> Deadline,
) -> Result<(), Error> {
    let Some(cache) = ResultCache::open()? else {
        return Ok(());
    };
    let remembered = RememberedVector::of(model_sha256, question)?;
    if remembered.read()?.is_some() {
        return Ok(());
    }
    let model = ModelChoice::from(model.to_owned());
    let texts = vec![Text::from(question.to_owned())];
    let embedded = embed(
        &model,
        texts,
        TextPurpose::Query,
        Priority::Interactive,
        deadline,
    )?;
    let is_same = embedded.model_sha256 == model_sha256;
    match embedded.into_vectors()?.first() {
        Some(vector) if is_same => cache.write(vec![remembered.with(vector)]),
        _ => Ok(()),
    }
}

/// Numbers as they are kept.
pub fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// And back.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks();
    numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect()
}

/// Longest wait for an answer about the sidecar's state.
pub const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the sidecar embeds a short text soon.
pub fn is_at_work() -> bool {
    let texts = vec![Text::from("Is anybody there?".to_owned())];
    let deadline = Deadline::after(STATE_TIMEOUT);
    let (model, purpose) = (ModelChoice::Default, TextPurpose::Unspecified);
    embed(&model, texts, purpose, Priority::Background, || deadline).is_ok()
}

/// Fails with the reason when the sidecar cannot take work now.
pub fn check_ready(deadline: Deadline) -> Result<(), Error> {
    let status = sidecar::call(deadline, async |client| {
        client.status(deadline.remaining()).await
    })?;
    match status.state() {
        ServerState::Ready => Ok(()),
        _ => Err(Error::Sidecar(ClientError::Unavailable {
            detail: "The sidecar is starting or stopping.".to_owned(),
        })),
    }
}
