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
    pub purpose: TextPurpose,
    /// Empty: nobody in particular.
    pub caller: String,
}

/// Passages to score by how well they fit a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerankingRequest {
    pub model: ModelChoice,
    /// Not empty.
    pub query: String,
    pub passages: TextBatch,
    pub priority: Priority,
    /// Empty: nobody in particular.
    pub caller: String,
}

/// What a text is for: some models want a prefix that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPurpose {
    Unspecified,
    Passage,
    Query,
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
pub struct Sampling {
    pub choice: TokenChoice,
    /// 1 to 2; 1 changes nothing.
    pub repetition_penalty: f32,
}

/// The rule that picks a token from the scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TokenChoice {
    /// Always the likeliest token.
    Likeliest,
    /// Reproducible by seed.
    Random {
        /// In (0, 2].
        temperature: f32,
        /// Nucleus mass in (0, 1].
        top_p: f32,
        /// In [0, 1].
        min_p: f32,
        seed: u64,
    },
}

/// What the text must obey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    JsonSchema(String),
    Regex(String),
    Choices(Vec<String>),
}

/// A LoRA adapter by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterChoice {
    pub name: String,
    /// None: the one that is loaded.
    pub generation: Option<u64>,
}

/// On whose behalf a request runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// Opaque; requests of one caller share its part of the model. Empty: nobody in particular.
    pub name: String,
    /// Made from the caller's rights; equal salts share computed prompts. Empty: shares nothing.
    pub cache_salt: Vec<u8>,
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    pub model: ModelChoice,
    /// None: the base model.
    pub adapter: Option<AdapterChoice>,
    pub messages: Vec<ChatMessage>,
    pub tokens_max: u32,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub constraint: Option<Constraint>,
    /// 0: no log-probabilities.
    pub top_logprobs: u32,
    pub priority: Priority,
    pub caller: Caller,
}

/// What precedes the bytes of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterHeader {
    pub name: String,
    /// 1 or more.
    pub generation: u64,
    pub model: ModelChoice,
    /// 64 lower-case hex digits.
    pub sha256: String,
    pub content_bytes: u64,
    /// PEFT's `adapter_config.json`.
    pub config_json: String,
}

/// What precedes the bytes of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentHeader {
    pub file_name: String,
    /// May be empty.
    pub media_type: String,
}

impl Sampling {
    /// The likeliest text, reproducible by nature.
    pub const GREEDY: Self = Self {
        choice: TokenChoice::Likeliest,
        repetition_penalty: 1.0,
    };

    /// Temperature and nucleus alone.
    pub fn nucleus(temperature: f32, top_p: f32, seed: u64) -> Self {
        let choice = TokenChoice::Random {
            temperature,
            top_p,
            min_p: 0.0,
            seed,
        };
        Self {
            choice,
            repetition_penalty: 1.0,
        }
    }
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

impl From<wire::TextPurpose> for TextPurpose {
    fn from(purpose: wire::TextPurpose) -> Self {
        match purpose {
            wire::TextPurpose::Unspecified => TextPurpose::Unspecified,
            wire::TextPurpose::Passage => TextPurpose::Passage,
            wire::TextPurpose::Query => TextPurpose::Query,
        }
    }
}

impl From<TextPurpose> for wire::TextPurpose {
    fn from(purpose: TextPurpose) -> Self {
        match purpose {
            TextPurpose::Unspecified => wire::TextPurpose::Unspecified,
            TextPurpose::Passage => wire::TextPurpose::Passage,
            TextPurpose::Query => wire::TextPurpose::Query,
        }
    }
}

impl TryFrom<wire::EmbedRequest> for EmbeddingRequest {
    type Error = InvalidRequest;

    fn try_from(request: wire::EmbedRequest) -> Result<Self, InvalidRequest> {
        let priority = request.priority().into();
        let purpose = request.purpose().into();
        check_size("caller", request.caller.len(), limits::NAME_BYTES_MAX)?;
        Ok(Self {
            model: request.model.into(),
            texts: TextBatch::new(request.texts, limits::EMBED_TEXTS_MAX)?,
            priority,
            purpose,
            caller: request.caller,
        })
    }
}

impl From<EmbeddingRequest> for wire::EmbedRequest {
    fn from(request: EmbeddingRequest) -> Self {
        Self {
            model: request.model.into(),
            texts: request.texts.into_inner(),
            priority: wire::Priority::from(request.priority).into(),
            purpose: wire::TextPurpose::from(request.purpose).into(),
            caller: request.caller,
        }
    }
}

impl TryFrom<wire::RerankRequest> for RerankingRequest {
    type Error = InvalidRequest;

    fn try_from(request: wire::RerankRequest) -> Result<Self, InvalidRequest> {
        let priority = request.priority().into();
        check_size("caller", request.caller.len(), limits::NAME_BYTES_MAX)?;
        let query_bytes = request.query.len();
        check_size("query", query_bytes, limits::RERANK_QUERY_BYTES_MAX)?;
        if request.query.trim().is_empty() {
            return Err(InvalidRequest::Value {
                field: "query",
                expected: "not empty",
            });
        }
        check_count(
            "passages",
            request.passages.len(),
            limits::RERANK_PASSAGES_MAX,
        )?;
        let passage_bytes = request.passages.iter().map(String::len).sum();
        check_size("passages", passage_bytes, limits::TEXT_BYTES_MAX)?;
        Ok(Self {
            model: request.model.into(),
            query: request.query,
            passages: TextBatch(request.passages),
            priority,
            caller: request.caller,
        })
    }
}

impl From<RerankingRequest> for wire::RerankRequest {
    fn from(request: RerankingRequest) -> Self {
        Self {
            model: request.model.into(),
            query: request.query,
            passages: request.passages.into_inner(),
            priority: wire::Priority::from(request.priority).into(),
            caller: request.caller,
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
        let wire::Sampling {
            temperature,
            top_p,
            seed,
            min_p,
            repetition_penalty,
        } = sampling.unwrap_or_default();
        let check = |field, value: f32, range: std::ops::RangeInclusive<f32>, expected| match range
            .contains(&value)
        {
            true => Ok(()),
            false => Err(InvalidRequest::Value { field, expected }),
        };
        let highest = limits::TEMPERATURE_MAX;
        check("temperature", temperature, 0.0..=highest, "between 0 and 2")?;
        check("top_p", top_p, 0.0..=1.0, "between 0 and 1")?;
        check("min_p", min_p, 0.0..=1.0, "between 0 and 1")?;
        let repetition_penalty = or_one(repetition_penalty);
        let penalties = 1.0..=limits::REPETITION_PENALTY_MAX;
        check(
            "repetition_penalty",
            repetition_penalty,
            penalties,
            "0 or between 1 and 2",
        )?;
        let choice = match temperature {
            0.0 => TokenChoice::Likeliest,
            temperature => TokenChoice::Random {
                temperature,
                top_p: or_one(top_p),
                min_p,
                seed,
            },
        };
        Ok(Self {
            choice,
            repetition_penalty,
        })
    }
}

/// The wire's 0 stands for 1.
fn or_one(value: f32) -> f32 {
    if value == 0.0 { 1.0 } else { value }
}

impl From<Sampling> for wire::Sampling {
    fn from(sampling: Sampling) -> Self {
        let repetition_penalty = sampling.repetition_penalty;
        match sampling.choice {
            TokenChoice::Likeliest => Self {
                repetition_penalty,
                ..Self::default()
            },
            TokenChoice::Random {
                temperature,
                top_p,
                min_p,
                seed,
            } => Self {
                temperature,
                top_p,
                seed,
                min_p,
                repetition_penalty,
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
        check_size("adapter", request.adapter.len(), limits::NAME_BYTES_MAX)?;
        check_stop(&request.stop)?;
        if request.top_logprobs > limits::TOP_LOGPROBS_MAX {
            return Err(InvalidRequest::Value {
                field: "top_logprobs",
                expected: "at most 20",
            });
        }
        let constraint = constraint(request.json_schema, request.regex, request.choices)?;
        if constraint.is_some() && !request.stop.is_empty() {
            return Err(InvalidRequest::Value {
                field: "stop",
                expected: "empty beside a constraint, which says itself where the text ends",
            });
        }
        let priority = wire::Priority::try_from(request.priority)
            .unwrap_or_default()
            .into();
        let messages = request
            .messages
            .into_iter()
            .map(ChatMessage::try_from)
            .collect::<Result<_, _>>()?;
        let generation = (request.adapter_generation != 0).then_some(request.adapter_generation);
        Ok(Self {
            model: request.model.into(),
            adapter: (!request.adapter.is_empty()).then_some(AdapterChoice {
                name: request.adapter,
                generation,
            }),
            messages,
            tokens_max: match request.tokens_max {
                0 => limits::COMPLETION_TOKENS_DEFAULT,
                tokens => tokens,
            },
            sampling: request.sampling.try_into()?,
            stop: request.stop,
            constraint,
            top_logprobs: request.top_logprobs,
            priority,
            caller: caller(request.caller, request.cache_salt)?,
        })
    }
}

impl GenerationRequest {
    /// The bytes of its message: the same for equal requests.
    pub fn encoded(self) -> Vec<u8> {
        prost::Message::encode_to_vec(&wire::GenerateRequest::from(self))
    }
}

impl From<GenerationRequest> for wire::GenerateRequest {
    fn from(request: GenerationRequest) -> Self {
        let (mut json_schema, mut regex, mut choices) = Default::default();
        match request.constraint {
            Some(Constraint::JsonSchema(schema)) => json_schema = schema,
            Some(Constraint::Regex(pattern)) => regex = pattern,
            Some(Constraint::Choices(texts)) => choices = texts,
            None => {}
        }
        let generation = request.adapter.as_ref().and_then(|a| a.generation);
        Self {
            model: request.model.into(),
            adapter: request.adapter.map_or(String::new(), |a| a.name),
            adapter_generation: generation.unwrap_or(0),
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
            json_schema,
            regex,
            choices,
            top_logprobs: request.top_logprobs,
            priority: wire::Priority::from(request.priority).into(),
            caller: request.caller.name,
            cache_salt: request.caller.cache_salt,
        }
    }
}

impl TryFrom<wire::DocumentHeader> for DocumentHeader {
    type Error = InvalidRequest;

    fn try_from(header: wire::DocumentHeader) -> Result<Self, InvalidRequest> {
        let wire::DocumentHeader {
            file_name,
            media_type,
        } = header;
        check_size("file_name", file_name.len(), limits::FILE_NAME_BYTES_MAX)?;
        check_size("media_type", media_type.len(), limits::MEDIA_TYPE_BYTES_MAX)?;
        if [&file_name, &media_type]
            .iter()
            .any(|text| text.contains('\0'))
        {
            let (field, expected) = ("file_name", "without NUL");
            return Err(InvalidRequest::Value { field, expected });
        }
        Ok(Self {
            file_name,
            media_type,
        })
    }
}

impl From<DocumentHeader> for wire::DocumentHeader {
    fn from(header: DocumentHeader) -> Self {
        Self {
            file_name: header.file_name,
            media_type: header.media_type,
        }
    }
}

impl TryFrom<wire::AdapterHeader> for AdapterHeader {
    type Error = InvalidRequest;

    fn try_from(header: wire::AdapterHeader) -> Result<Self, InvalidRequest> {
        let value = |field, expected| Err(InvalidRequest::Value { field, expected });
        if !(1..=limits::NAME_BYTES_MAX).contains(&header.name.len()) {
            return value("name", "of 1 to 128 bytes");
        }
        if header.generation == 0 {
            return value("generation", "at least 1");
        }
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if header.sha256.len() != 64 || !header.sha256.bytes().all(is_hex) {
            return value("sha256", "of 64 lower-case hex digits");
        }
        if !(1..=limits::ADAPTER_BYTES_MAX).contains(&header.content_bytes) {
            return value("content_bytes", "between 1 and 1 GiB");
        }
        let config_bytes = header.config_json.len();
        check_size(
            "config_json",
            config_bytes,
            limits::ADAPTER_CONFIG_BYTES_MAX,
        )?;
        Ok(Self {
            name: header.name,
            generation: header.generation,
            model: header.model.into(),
            sha256: header.sha256,
            content_bytes: header.content_bytes,
            config_json: header.config_json,
        })
    }
}

impl From<AdapterHeader> for wire::AdapterHeader {
    fn from(header: AdapterHeader) -> Self {
        Self {
            name: header.name,
            generation: header.generation,
            model: header.model.into(),
            sha256: header.sha256,
            content_bytes: header.content_bytes,
            config_json: header.config_json,
        }
    }
}

fn caller(name: String, cache_salt: Vec<u8>) -> Result<Caller, InvalidRequest> {
    check_size("caller", name.len(), limits::NAME_BYTES_MAX)?;
    check_size("cache_salt", cache_salt.len(), limits::CACHE_SALT_BYTES_MAX)?;
    Ok(Caller { name, cache_salt })
}

fn constraint(
    json_schema: String,
    regex: String,
    choices: Vec<String>,
) -> Result<Option<Constraint>, InvalidRequest> {
    let given = [
        !json_schema.is_empty(),
        !regex.is_empty(),
        !choices.is_empty(),
    ];
    if given.into_iter().filter(|&given| given).count() > 1 {
        return Err(InvalidRequest::Value {
            field: "json_schema",
            expected: "the only one of \"json_schema\", \"regex\" and \"choices\"",
        });
    }
    check_size(
        "json_schema",
        json_schema.len(),
        limits::JSON_SCHEMA_BYTES_MAX,
    )?;
    check_size("regex", regex.len(), limits::REGEX_BYTES_MAX)?;
    let choice_bytes = choices.iter().map(String::len).sum();
    check_size("choices", choice_bytes, limits::REGEX_BYTES_MAX)?;
    let is_choice = |text: &String| (1..=limits::CHOICE_BYTES_MAX).contains(&text.len());
    if choices.len() > limits::CHOICES_MAX || !choices.iter().all(is_choice) {
        return Err(InvalidRequest::Value {
            field: "choices",
            expected: "at most 1,024 texts of 1 to 1,024 bytes each",
        });
    }
    Ok(match given {
        [true, ..] => Some(Constraint::JsonSchema(json_schema)),
        [_, true, _] => Some(Constraint::Regex(regex)),
        [_, _, true] => Some(Constraint::Choices(choices)),
        _ => None,
    })
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
