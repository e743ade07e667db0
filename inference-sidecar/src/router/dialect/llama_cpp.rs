//! llama.cpp: `llama-server` and the server of llama-cpp-python. Source:
//! <https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md> (POST /completion and
//! POST /v1/chat/completions) and <https://llama-cpp-python.readthedocs.io/en/latest/server/>.
//!
//! Both ignore fields that they do not know. Neither has a regular-expression constraint, a cache salt
//! (so nothing is reused: `cache_prompt` is off) or priorities (which are only a hint).

use proto::model::{Constraint, GenerationRequest};

use super::request::{ChatRequest, LoraScale, ResponseFormat, decimal, min_p, schema};
use super::{Unsupported, choice_grammar, entry};
use crate::router::config::UpstreamConfig;

/// Tokens that a repetition penalty looks back at: more than such a server mostly has for one text. `llama-server`
/// refuses -1 for all of them, and reserves memory for as many as are named.
const REPEAT_LAST_N: i32 = 1 << 17;

pub(super) fn request<'a>(
    upstream: &'a UpstreamConfig,
    request: &'a GenerationRequest,
) -> Result<ChatRequest<'a>, Unsupported> {
    let mut body = ChatRequest::new(&upstream.model, request);
    body.top_k = 0;
    body.min_p = Some(min_p(request));
    body.repeat_penalty = Some(decimal(request.sampling.repetition_penalty));
    // Not only the last 64 tokens count.
    body.repeat_last_n = Some(REPEAT_LAST_N);
    body.cache_prompt = Some(false);
    body.timings_per_token = Some(true);
    if let Some(adapter) = &request.adapter {
        let entry = entry(upstream, adapter)?.ok_or(Unsupported::Field("adapter"))?;
        let id = entry.id.ok_or(Unsupported::Field("adapter"))?;
        body.lora = Some(vec![LoraScale { id, scale: 1.0 }]);
    } else if !upstream.adapters.is_empty() {
        // An empty list switches off those that the server applies by itself.
        body.lora = Some(Vec::new());
    }
    match &request.constraint {
        None => {}
        Some(Constraint::JsonSchema(text)) => {
            let schema = schema(text)?;
            body.response_format = Some(ResponseFormat::JsonObject { schema });
        }
        Some(Constraint::Choices(texts)) => body.grammar = Some(choice_grammar(texts)),
        Some(Constraint::Regex(_)) => return Err(Unsupported::Field("regex")),
    }
    Ok(body)
}
