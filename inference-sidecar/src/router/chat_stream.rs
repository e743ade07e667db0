//! The chunks of a streamed chat completion, turned into the events of our contract.
//! Source: <https://platform.openai.com/docs/api-reference/chat-streaming>; what the servers add is
//! named beside each field.

use std::collections::VecDeque;
use std::time::Instant;

use proto::wire;
use proto::wire::generate_response::Event;
use proto::wire::token_logprob::Alternative;
use serde::Deserialize;

use super::failure::Failure;
use super::sse::SseEvent;

/// Bytes of text per token that was asked for: real tokens are far shorter.
const TOKEN_BYTES_MAX: usize = 1024;

/// What is known before the stream begins.
#[derive(Debug, Clone)]
pub(super) struct ChatExpectation {
    /// Our name of the model.
    pub model: String,
    /// The upstream's name for clients.
    pub upstream: String,
    pub adapter_generation: u64,
    pub tokens_max: u32,
    pub is_constrained: bool,
    /// The client wants log-probabilities.
    pub has_logprobs: bool,
}

/// Reads the chunks of one answer.
#[derive(Debug)]
pub(super) struct ChatStream {
    expectation: ChatExpectation,
    sent: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    finish: Option<wire::FinishReason>,
    usage: Usage,
    timings: Timings,
    has_chunks: bool,
    chunks: u32,
    text_bytes: usize,
    is_complete: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    timings: Option<Timings>,
    /// llama.cpp, vLLM: a failure after the headers were sent.
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    /// Older vLLM and TensorRT-LLM: "error" marks one as well.
    #[serde(default)]
    object: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    #[serde(default)]
    logprobs: Option<Logprobs>,
    #[serde(default)]
    finish_reason: Option<String>,
    /// vLLM, TensorRT-LLM: the stop string, or the id of a stop token.
    #[serde(default)]
    stop_reason: Option<StopReason>,
}

#[derive(Deserialize, Default)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StopReason {
    Text(#[allow(dead_code)] String),
    Other(#[allow(dead_code)] serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Logprob>>,
}

#[derive(Deserialize)]
struct Logprob {
    /// llama.cpp alone tells it.
    #[serde(default)]
    id: u32,
    token: String,
    logprob: f32,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Logprob>,
}

#[derive(Deserialize, Debug, Default, Clone)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: Option<u32>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptTokens>,
}

#[derive(Deserialize, Debug, Clone)]
struct PromptTokens {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

/// llama.cpp: sent with each chunk when `timings_per_token` is set.
#[derive(Deserialize, Debug, Default, Clone)]
struct Timings {
    #[serde(default)]
    prompt_n: u32,
    #[serde(default)]
    cache_n: u32,
    #[serde(default)]
    predicted_n: u32,
}

impl ChatStream {
    /// A stream whose request is sent now.
    pub fn new(expectation: ChatExpectation) -> Self {
        Self {
            expectation,
            sent: Instant::now(),
            first_token: None,
            last_token: None,
            finish: None,
            usage: Usage::default(),
            timings: Timings::default(),
            has_chunks: false,
            chunks: 0,
            text_bytes: 0,
            is_complete: false,
        }
    }

    /// True when the last event has been given out.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes one server-sent event and appends what it means.
    pub fn push(&mut self, event: &SseEvent, out: &mut VecDeque<Event>) -> Result<(), Failure> {
        if event.data == "[DONE]" && !event.is_error {
            return self.end(out);
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|_| Failure::Broken("a chunk is not what the protocol says"))?;
        if event.is_error || chunk.error.is_some() || chunk.object.as_deref() == Some("error") {
            return Err(Failure::Broken("an error in the stream"));
        }
        self.has_chunks = true;
        if let Some(usage) = chunk.usage {
            self.usage = usage;
        }
        if let Some(timings) = chunk.timings {
            self.timings = timings;
        }
        match chunk.choices.into_iter().next() {
            Some(choice) => self.choice(choice, out),
            None => Ok(()),
        }
    }

    /// The stream is over: the last event, unless the answer is incomplete.
    pub fn end(&mut self, out: &mut VecDeque<Event>) -> Result<(), Failure> {
        if self.is_complete {
            return Ok(());
        }
        let Some(reason) = self.finish else {
            return Err(match self.has_chunks {
                true => Failure::Broken("the answer has no end"),
                // So llama-cpp-python answers a prompt that is too long.
                false => Failure::Rejected { detail: None },
            });
        };
        if self.expectation.is_constrained && reason == wire::FinishReason::Length {
            return Err(Failure::ConstraintUnfinished);
        }
        self.start(out);
        let counted = [self.timings.predicted_n, self.chunks];
        let completion_tokens = self.usage.completion_tokens.or_else(|| {
            // llama-cpp-python tells no counts; it sends one chunk per token.
            counted.into_iter().find(|&count| count > 0)
        });
        let completion = match (self.first_token, self.last_token) {
            (Some(first), Some(last)) => last - first,
            _ => std::time::Duration::ZERO,
        };
        out.push_back(Event::Finished(wire::GenerateFinished {
            reason: reason.into(),
            completion_tokens: completion_tokens.unwrap_or(0),
            completion_ms: completion.as_millis() as u32,
            ..Default::default()
        }));
        self.is_complete = true;
        Ok(())
    }

    fn choice(&mut self, choice: Choice, out: &mut VecDeque<Event>) -> Result<(), Failure> {
        let text = choice.delta.content.unwrap_or_default();
        let logprobs = choice.logprobs.and_then(|logprobs| logprobs.content);
        let logprobs = match self.expectation.has_logprobs {
            true => logprobs.unwrap_or_default(),
            false => Vec::new(),
        };
        if !text.is_empty() || !logprobs.is_empty() {
            self.start(out);
            let now = Instant::now();
            self.first_token.get_or_insert(now);
            self.last_token = Some(now);
            self.chunks = self.chunks.saturating_add(1);
        }
        self.text_bytes = self.text_bytes.saturating_add(text.len());
        if self.text_bytes / TOKEN_BYTES_MAX > self.expectation.tokens_max as usize {
            return Err(Failure::Broken("more text than was asked for"));
        }
        out.extend(logprobs.into_iter().map(|token| Event::Token(token.into())));
        if !text.is_empty() {
            out.push_back(Event::Text(text));
        }
        if let Some(reason) = choice.finish_reason {
            self.finish = Some(finish_reason(&reason, choice.stop_reason.as_ref())?);
        }
        Ok(())
    }

    /// The first event, once.
    fn start(&mut self, out: &mut VecDeque<Event>) {
        if self.first_token.is_some() || self.is_complete {
            return;
        }
        let cached = self.usage.prompt_tokens_details.as_ref();
        let cached = cached.and_then(|tokens| tokens.cached_tokens);
        out.push_back(Event::Started(wire::GenerateStarted {
            model: self.expectation.model.clone(),
            prompt_tokens: match self.usage.prompt_tokens {
                0 => self.timings.prompt_n.saturating_add(self.timings.cache_n),
                tokens => tokens,
            },
            prompt_ms: self.sent.elapsed().as_millis() as u32,
            adapter_generation: self.expectation.adapter_generation,
            cached_tokens: cached.unwrap_or(self.timings.cache_n),
            upstream: self.expectation.upstream.clone(),
            ..Default::default()
        }));
    }
}

/// `stop` means both ends of a turn; only `stop_reason` tells a stop string apart.
fn finish_reason(
    reason: &str,
    stop_reason: Option<&StopReason>,
) -> Result<wire::FinishReason, Failure> {
    match (reason, stop_reason) {
        ("stop", Some(StopReason::Text(_))) => Ok(wire::FinishReason::Stop),
        ("stop", _) => Ok(wire::FinishReason::End),
        ("length", _) => Ok(wire::FinishReason::Length),
        _ => Err(Failure::Broken("it ended for a reason that we do not know")),
    }
}

impl From<Logprob> for wire::TokenLogprob {
    fn from(token: Logprob) -> Self {
        let alternatives = token
            .top_logprobs
            .into_iter()
            .map(|alternative| Alternative {
                id: alternative.id,
                logprob: alternative.logprob,
                content: content(alternative.bytes, alternative.token),
            });
        Self {
            id: token.id,
            logprob: token.logprob,
            alternatives: alternatives.collect(),
            content: content(token.bytes, token.token),
        }
    }
}

/// The bytes of a token, or of the text that stands for it where a server tells no bytes.
fn content(bytes: Option<Vec<u8>>, token: String) -> Vec<u8> {
    bytes.unwrap_or_else(|| token.into_bytes())
}
