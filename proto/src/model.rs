//! Checked requests: what the generated messages may hold is parsed once into types that cannot be wrong.

use thiserror::Error;

use crate::{limits, wire};

/// A request that breaks a limit of the contract; the text names the field and the limit, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    #[error("\"{field}\" must hold 1 to {max} entries, got {count}")]
    Count {
        field: &'static str,
        max: usize,
        count: usize,
    },
    #[error("\"{field}\" holds {bytes} bytes, at most {max} are allowed")]
    Size {
        field: &'static str,
        max: usize,
        bytes: usize,
    },
    #[error("\"{field}\" must be {expected}")]
    Value {
        field: &'static str,
        expected: &'static str,
    },
    #[error("\"{field}\" is not supported by this version")]
    Unsupported { field: &'static str },
}

/// Who waits for the result; interactive work overtakes background work in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Interactive,
    Background,
}

/// Name of a model, or the default one of the kind that the call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    Default,
    Named(String),
}

/// One to `max` texts within the byte limit of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextBatch(Vec<String>);

/// A batch to embed; one vector or one error comes back per text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingRequest {
    pub model: ModelChoice,
    pub texts: TextBatch,
    pub priority: Priority,
}

/// A text to split under a token budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkingRequest {
    pub model: ModelChoice,
    pub text: String,
    /// None: what the model takes.
    pub tokens_max: Option<u32>,
    pub overlap_tokens: u32,
}

/// Who speaks in a message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Always the likeliest token.
    Greedy,
    /// Temperature in (0, 2], nucleus mass in (0, 1], reproducible by seed.
    Nucleus {
        temperature: f32,
        top_p: f32,
        seed: u64,
    },
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    pub model: ModelChoice,
    /// None: the base model.
    pub adapter: Option<String>,
    pub messages: Vec<ChatMessage>,
    pub tokens_max: u32,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub priority: Priority,
}

impl Role {
    /// The name a chat template knows.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl ModelChoice {
    /// None when the default is meant.
    pub fn name(&self) -> Option<&str> {
        match self {
            ModelChoice::Default => None,
            ModelChoice::Named(name) => Some(name),
        }
    }
}

impl TextBatch {
    /// Checks number and size against the contract.
    pub fn new(texts: Vec<String>, texts_max: usize) -> Result<Self, InvalidRequest> {
        check_count("texts", texts.len(), texts_max)?;
        check_size(
            "texts",
            texts.iter().map(String::len).sum(),
            limits::TEXT_BYTES_MAX,
        )?;
        Ok(Self(texts))
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    pub fn into_inner(self) -> Vec<String> {
        self.0
    }
}

impl From<String> for ModelChoice {
    fn from(name: String) -> Self {
        if name.is_empty() {
            ModelChoice::Default
        } else {
            ModelChoice::Named(name)
        }
    }
}

impl From<ModelChoice> for String {
    fn from(model: ModelChoice) -> Self {
        match model {
            ModelChoice::Default => String::new(),
            ModelChoice::Named(name) => name,
        }
    }
}

impl From<wire::Priority> for Priority {
    fn from(priority: wire::Priority) -> Self {
        match priority {
            wire::Priority::Background => Priority::Background,
            wire::Priority::Interactive | wire::Priority::Unspecified => Priority::Interactive,
        }
    }
}

impl From<Priority> for wire::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Interactive => wire::Priority::Interactive,
            Priority::Background => wire::Priority::Background,
        }
    }
}

impl TryFrom<wire::EmbedRequest> for EmbeddingRequest {
    type Error = InvalidRequest;

    fn try_from(request: wire::EmbedRequest) -> Result<Self, InvalidRequest> {
        let priority = request.priority().into();
        Ok(Self {
            model: request.model.into(),
            texts: TextBatch::new(request.texts, limits::EMBED_TEXTS_MAX)?,
            priority,
        })
    }
}

impl From<EmbeddingRequest> for wire::EmbedRequest {
    fn from(request: EmbeddingRequest) -> Self {
        Self {
            model: request.model.into(),
            texts: request.texts.into_inner(),
            priority: wire::Priority::from(request.priority).into(),
        }
    }
}

impl TryFrom<wire::ChunkRequest> for ChunkingRequest {
    type Error = InvalidRequest;

    fn try_from(request: wire::ChunkRequest) -> Result<Self, InvalidRequest> {
        check_size("text", request.text.len(), limits::TEXT_BYTES_MAX)?;
        let tokens_max = (request.tokens_max != 0).then_some(request.tokens_max);
        if tokens_max.is_some_and(|tokens| tokens < limits::CHUNK_TOKENS_MIN) {
            return Err(InvalidRequest::Value {
                field: "tokens_max",
                expected: "0 or at least 8",
            });
        }
        if tokens_max.is_some_and(|tokens| request.overlap_tokens >= tokens) {
            return Err(InvalidRequest::Value {
                field: "overlap_tokens",
                expected: "less than \"tokens_max\"",
            });
        }
        Ok(Self {
            model: request.model.into(),
            text: request.text,
            tokens_max,
            overlap_tokens: request.overlap_tokens,
        })
    }
}

impl From<ChunkingRequest> for wire::ChunkRequest {
    fn from(request: ChunkingRequest) -> Self {
        Self {
            model: request.model.into(),
            text: request.text,
            tokens_max: request.tokens_max.unwrap_or(0),
            overlap_tokens: request.overlap_tokens,
        }
    }
}

impl TryFrom<wire::Message> for ChatMessage {
    type Error = InvalidRequest;

    fn try_from(message: wire::Message) -> Result<Self, InvalidRequest> {
        let role = match message.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => {
                return Err(InvalidRequest::Value {
                    field: "role",
                    expected: "\"system\", \"user\" or \"assistant\"",
                });
            }
        };
        Ok(Self {
            role,
            content: message.content,
        })
    }
}

impl TryFrom<Option<wire::Sampling>> for Sampling {
    type Error = InvalidRequest;

    fn try_from(sampling: Option<wire::Sampling>) -> Result<Self, InvalidRequest> {
        let sampling = sampling.unwrap_or_default();
        if !(0.0..=limits::TEMPERATURE_MAX).contains(&sampling.temperature) {
            return Err(InvalidRequest::Value {
                field: "temperature",
                expected: "between 0 and 2",
            });
        }
        if !(0.0..=1.0).contains(&sampling.top_p) {
            return Err(InvalidRequest::Value {
                field: "top_p",
                expected: "between 0 and 1",
            });
        }
        if sampling.temperature == 0.0 {
            return Ok(Sampling::Greedy);
        }
        let top_p = if sampling.top_p == 0.0 {
            1.0
        } else {
            sampling.top_p
        };
        Ok(Sampling::Nucleus {
            temperature: sampling.temperature,
            top_p,
            seed: sampling.seed,
        })
    }
}

impl From<Sampling> for wire::Sampling {
    fn from(sampling: Sampling) -> Self {
        match sampling {
            Sampling::Greedy => Self::default(),
            Sampling::Nucleus {
                temperature,
                top_p,
                seed,
            } => Self {
                temperature,
                top_p,
                seed,
            },
        }
    }
}

impl TryFrom<wire::GenerateRequest> for GenerationRequest {
    type Error = InvalidRequest;

    fn try_from(request: wire::GenerateRequest) -> Result<Self, InvalidRequest> {
        check_count("messages", request.messages.len(), limits::MESSAGES_MAX)?;
        let message_bytes = request
            .messages
            .iter()
            .map(|message| message.content.len())
            .sum();
        check_size("messages", message_bytes, limits::MESSAGE_BYTES_MAX)?;
        check_stop(&request.stop)?;
        if !request.json_schema.is_empty() {
            return Err(InvalidRequest::Unsupported {
                field: "json_schema",
            });
        }
        let priority = request.priority().into();
        let messages = request
            .messages
            .into_iter()
            .map(ChatMessage::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            model: request.model.into(),
            adapter: (!request.adapter.is_empty()).then_some(request.adapter),
            messages,
            tokens_max: match request.tokens_max {
                0 => limits::COMPLETION_TOKENS_DEFAULT,
                tokens => tokens,
            },
            sampling: request.sampling.try_into()?,
            stop: request.stop,
            priority,
        })
    }
}

impl From<GenerationRequest> for wire::GenerateRequest {
    fn from(request: GenerationRequest) -> Self {
        Self {
            model: request.model.into(),
            adapter: request.adapter.unwrap_or_default(),
            messages: request
                .messages
                .into_iter()
                .map(|message| wire::Message {
                    role: message.role.name().to_owned(),
                    content: message.content,
                })
                .collect(),
            tokens_max: request.tokens_max,
            sampling: Some(request.sampling.into()),
            stop: request.stop,
            json_schema: String::new(),
            priority: wire::Priority::from(request.priority).into(),
        }
    }
}

fn check_count(field: &'static str, count: usize, max: usize) -> Result<(), InvalidRequest> {
    if (1..=max).contains(&count) {
        Ok(())
    } else {
        Err(InvalidRequest::Count { field, max, count })
    }
}

fn check_size(field: &'static str, bytes: usize, max: usize) -> Result<(), InvalidRequest> {
    if bytes <= max {
        Ok(())
    } else {
        Err(InvalidRequest::Size { field, max, bytes })
    }
}

fn check_stop(stop: &[String]) -> Result<(), InvalidRequest> {
    if stop.len() > limits::STOP_STRINGS_MAX {
        return Err(InvalidRequest::Value {
            field: "stop",
            expected: "at most 8 strings",
        });
    }
    if stop
        .iter()
        .any(|text| !(1..=limits::STOP_BYTES_MAX).contains(&text.len()))
    {
        return Err(InvalidRequest::Value {
            field: "stop",
            expected: "of 1 to 64 bytes each",
        });
    }
    Ok(())
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
