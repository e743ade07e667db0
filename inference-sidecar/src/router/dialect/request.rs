//! The fields that some server understands; each dialect fills its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proto::model::{GenerationRequest, TokenChoice};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Unsupported;

/// A chat completion to stream. Fields that are None are not sent.
#[derive(Serialize, Default)]
pub(super) struct ChatRequest<'a> {
    pub model: &'a str,
    pub messages: Vec<Message<'a>>,
    pub max_tokens: u32,
    pub stream: bool,
    pub stream_options: StreamOptions,
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_outputs: Option<StructuredOutputs<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guided_regex: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guided_choice: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Vec<LoraScale>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_request: Option<LoraRequest<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_prompt: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<RequestPriority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings_per_token: Option<bool>,
}

#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub role: &'static str,
    pub content: &'a str,
}

#[derive(Serialize, Default)]
pub(super) struct StreamOptions {
    /// Token counts in a last chunk.
    pub include_usage: bool,
    /// Token counts in every chunk, so that the first one has those of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuous_usage_stats: Option<bool>,
}

/// Constraints as `response_format`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ResponseFormat<'a> {
    JsonSchema { json_schema: NamedSchema<'a> },
    JsonObject { schema: &'a RawValue },
    Json { schema: &'a RawValue },
    Regex { regex: &'a str },
    Ebnf { ebnf: String },
}

#[derive(Serialize)]
pub(super) struct NamedSchema<'a> {
    pub name: &'static str,
    pub schema: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StructuredOutputs<'a> {
    Regex(&'a str),
    Choice(&'a [String]),
}

/// vLLM counts ranks, TensorRT-LLM knows shares.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum RequestPriority {
    Rank(i32),
    Share(f64),
}

#[derive(Serialize)]
pub(super) struct LoraScale {
    pub id: u32,
    pub scale: f64,
}

#[derive(Serialize)]
pub(super) struct LoraRequest<'a> {
    pub lora_name: &'a str,
    pub lora_int_id: u32,
    pub lora_path: &'a str,
}

impl<'a> ChatRequest<'a> {
    /// What all servers call the same. Sampling is spelt out, because their defaults differ.
    pub fn new(model: &'a str, request: &'a GenerationRequest) -> Self {
        let messages = request.messages.iter().map(|message| Message {
            role: message.role.name(),
            content: &message.content,
        });
        let (temperature, top_p, seed) = match request.sampling.choice {
            TokenChoice::Likeliest => (0.0, 1.0, None),
            TokenChoice::Random {
                temperature,
                top_p,
                seed,
                ..
            } => (temperature, top_p, Some(seed)),
        };
        let has_logprobs = request.top_logprobs > 0;
        Self {
            model,
            messages: messages.collect(),
            max_tokens: request.tokens_max,
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
                continuous_usage_stats: None,
            },
            temperature: decimal(temperature),
            top_p: decimal(top_p),
            seed: seed.map(fold_seed),
            stop: &request.stop,
            logprobs: has_logprobs.then_some(true),
            top_logprobs: has_logprobs.then_some(request.top_logprobs),
            ..Self::default()
        }
    }
}

/// The share below which tokens are dropped; 0: none.
pub(super) fn min_p(request: &GenerationRequest) -> f64 {
    match request.sampling.choice {
        TokenChoice::Likeliest => 0.0,
        TokenChoice::Random { min_p, .. } => decimal(min_p),
    }
}

/// The number that a person would write: 0.7, not 0.699999988079071.
pub(super) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Seeds of 31 bits are what every server takes. Equal seeds stay equal.
fn fold_seed(seed: u64) -> u32 {
    ((seed ^ (seed >> 31) ^ (seed >> 62)) & 0x7fff_ffff) as u32
}

/// The schema as it was written: the order of its properties is the order of the answer.
pub(super) fn schema(text: &str) -> Result<&RawValue, Unsupported> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(schema) if schema.get().starts_with('{') => Ok(schema),
        _ => Err(Unsupported::Schema),
    }
}

/// A salt that only requests with the same rights share; a fresh one where nothing may be shared.
pub(super) fn cache_salt(request: &GenerationRequest) -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    match request.caller.cache_salt.as_slice() {
        [] => {
            let fresh = RandomState::new().build_hasher().finish();
            format!(
                "once-{:016x}{fresh:016x}-{}",
                *PROCESS,
                NEXT.fetch_add(1, Relaxed)
            )
        }
        salt => hex(salt),
    }
}
