//! vLLM. Source: <https://docs.vllm.ai/en/stable/serving/openai_compatible_server/> ("Extra Parameters
//! for Chat API") and <https://docs.vllm.ai/en/stable/features/structured_outputs/>.

use proto::model::{Constraint, GenerationRequest, Priority};

use super::request::{
    ChatRequest, NamedSchema, RequestPriority, ResponseFormat, StructuredOutputs, cache_salt,
    decimal, min_p, schema,
};
use super::{Unsupported, entry};
use crate::router::config::UpstreamConfig;

pub(super) fn request<'a>(
    upstream: &'a UpstreamConfig,
    request: &'a GenerationRequest,
) -> Result<ChatRequest<'a>, Unsupported> {
    // An adapter is served like a model of its own name.
    let model = match &request.adapter {
        None => &upstream.model,
        Some(adapter) => match entry(upstream, adapter)? {
            None => &adapter.name,
            Some(entry) => entry.served_as.as_ref().unwrap_or(&entry.name),
        },
    };
    let mut body = ChatRequest::new(model, request);
    body.stream_options.continuous_usage_stats = Some(true);
    // Left out, these would come from the model's generation_config.json.
    body.top_k = -1;
    body.min_p = Some(min_p(request));
    body.repetition_penalty = Some(decimal(request.sampling.repetition_penalty));
    body.cache_salt = Some(cache_salt(request));
    // Lower means earlier.
    body.priority = upstream
        .priority_scheduling
        .then_some(match request.priority {
            Priority::Interactive => RequestPriority::Rank(0),
            Priority::Background => RequestPriority::Rank(10),
        });
    match &request.constraint {
        None => {}
        Some(Constraint::JsonSchema(text)) => {
            let schema = schema(text)?;
            let json_schema = NamedSchema {
                name: "answer",
                schema,
            };
            body.response_format = Some(ResponseFormat::JsonSchema { json_schema });
        }
        Some(Constraint::Regex(regex)) if upstream.guided_fields => body.guided_regex = Some(regex),
        Some(Constraint::Regex(regex)) => {
            body.structured_outputs = Some(StructuredOutputs::Regex(regex));
        }
        Some(Constraint::Choices(texts)) if upstream.guided_fields => {
            body.guided_choice = Some(texts);
        }
        Some(Constraint::Choices(texts)) => {
            body.structured_outputs = Some(StructuredOutputs::Choice(texts));
        }
    }
    Ok(body)
}
