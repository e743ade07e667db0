//! TensorRT-LLM (`trtllm-serve`), which refuses fields that it does not know. Source:
//! <https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/trtllm-serve.html>,
//! <https://nvidia.github.io/TensorRT-LLM/examples/openai_completion_client_json_schema.html> and
//! <https://nvidia.github.io/TensorRT-LLM/examples/openai_completion_client_for_lora.html>.

use proto::model::{Constraint, GenerationRequest, Priority};

use super::request::{
    ChatRequest, LoraRequest, RequestPriority, ResponseFormat, cache_salt, decimal, min_p, schema,
};
use super::{Unsupported, choice_grammar, entry};
use crate::router::config::UpstreamConfig;

pub(super) fn request<'a>(
    upstream: &'a UpstreamConfig,
    request: &'a GenerationRequest,
) -> Result<ChatRequest<'a>, Unsupported> {
    let mut body = ChatRequest::new(&upstream.model, request);
    body.stream_options.continuous_usage_stats = Some(true);
    body.top_k = 0;
    body.min_p = Some(min_p(request)).filter(|&share| share != 0.0);
    body.repetition_penalty =
        Some(decimal(request.sampling.repetition_penalty)).filter(|&penalty| penalty != 1.0);
    body.cache_salt = upstream.cache_salt.then(|| cache_salt(request));
    // From 0 to 1, higher is earlier, 0.5 when left out.
    body.priority = upstream
        .priority_scheduling
        .then_some(match request.priority {
            Priority::Interactive => RequestPriority::Share(0.75),
            Priority::Background => RequestPriority::Share(0.25),
        });
    if let Some(adapter) = &request.adapter {
        let entry = entry(upstream, adapter)?.ok_or(Unsupported::Field("adapter"))?;
        body.lora_request = Some(LoraRequest {
            lora_name: entry.served_as.as_ref().unwrap_or(&entry.name),
            lora_int_id: entry.id.ok_or(Unsupported::Field("adapter"))?,
            lora_path: entry.path.as_deref().ok_or(Unsupported::Field("adapter"))?,
        });
    }
    body.response_format = match &request.constraint {
        None => None,
        Some(Constraint::JsonSchema(text)) => Some(ResponseFormat::Json {
            schema: schema(text)?,
        }),
        Some(Constraint::Regex(regex)) => Some(ResponseFormat::Regex { regex }),
        Some(Constraint::Choices(texts)) => Some(ResponseFormat::Ebnf {
            ebnf: choice_grammar(texts),
        }),
    };
    Ok(body)
}
