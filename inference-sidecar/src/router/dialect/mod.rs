//! What each OpenAI-compatible server calls the parts of a request. All of them take
//! `POST /v1/chat/completions`; they differ in constraints, adapters, sampling and cache.
//! What a server cannot express is refused by name, never dropped.

mod llama_cpp;
mod request;
mod tensorrt_llm;
mod vllm;

use proto::model::{AdapterChoice, GenerationRequest};

use super::config::{RoutedAdapterConfig, UpstreamConfig, UpstreamKind};
use request::ChatRequest;

/// A part of a request that an upstream cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// This field.
    Field(&'static str),
    /// The JSON schema is no JSON object.
    Schema,
}

/// The body of the request, as JSON.
pub(super) fn body(
    upstream: &UpstreamConfig,
    request: &GenerationRequest,
) -> Result<Vec<u8>, Unsupported> {
    let body: ChatRequest = match upstream.kind {
        UpstreamKind::Vllm => vllm::request(upstream, request)?,
        UpstreamKind::TensorRtLlm => tensorrt_llm::request(upstream, request)?,
        UpstreamKind::LlamaCpp => llama_cpp::request(upstream, request)?,
        // Sidecars speak gRPC.
        UpstreamKind::Sidecar => return Err(Unsupported::Field("model")),
    };
    serde_json::to_vec(&body).map_err(|_| Unsupported::Field("messages"))
}

/// The path of the cheapest request that tells whether the server can work.
pub(super) fn health_path(kind: UpstreamKind) -> &'static str {
    match kind {
        // <https://docs.vllm.ai/en/stable/serving/openai_compatible_server/>, and `trtllm-serve` alike:
        // <https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/trtllm-serve.html>.
        UpstreamKind::Vllm | UpstreamKind::TensorRtLlm => "/health",
        // The server of llama-cpp-python has no `/health`.
        UpstreamKind::LlamaCpp | UpstreamKind::Sidecar => "/v1/models",
    }
}

/// The entry for an adapter, if the configuration has one that serves this generation.
fn entry<'a>(
    upstream: &'a UpstreamConfig,
    adapter: &AdapterChoice,
) -> Result<Option<&'a RoutedAdapterConfig>, Unsupported> {
    let Some(entry) = upstream.adapters.iter().find(|e| e.name == adapter.name) else {
        return match adapter.generation {
            // Nobody says which generation is loaded there.
            Some(_) => Err(Unsupported::Field("adapter_generation")),
            None => Ok(None),
        };
    };
    match (adapter.generation, entry.generation) {
        (Some(wanted), served) if served != Some(wanted) => {
            Err(Unsupported::Field("adapter_generation"))
        }
        _ => Ok(Some(entry)),
    }
}

/// The generation that an upstream's adapter stands for; 0: none is known.
pub(super) fn adapter_generation(upstream: &UpstreamConfig, request: &GenerationRequest) -> u64 {
    let adapter = request.adapter.as_ref();
    let entry = adapter.and_then(|adapter| entry(upstream, adapter).ok().flatten());
    entry.and_then(|entry| entry.generation).unwrap_or(0)
}

/// Alternatives as a grammar of one rule, in the notation that llama.cpp (GBNF) and XGrammar (EBNF) share.
fn choice_grammar(choices: &[String]) -> String {
    let quoted: Vec<_> = choices.iter().map(|choice| quote(choice)).collect();
    format!("root ::= {}", quoted.join(" | "))
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                quoted.push_str(&format!("\\x{:02X}", control as u32));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
