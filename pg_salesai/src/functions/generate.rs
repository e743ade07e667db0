//! Free generation.

use pgrx::JsonB;
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use proto::model::GenerationRequest;
use proto::wire;
use serde::Deserialize;

use crate::client_output;
use crate::error::Error;
use crate::generation::{self, Batch, Overload, TextStream, generate_all};
use crate::progress::Shown;
use crate::sidecar::Deadline;

/// Options of one generation, as `salesai.generate` gives them; NULL arguments are null.
#[derive(Deserialize, Clone)]
struct Options {
    json_schema: Option<String>,
    regex: Option<String>,
    choices: Option<Vec<String>>,
    system: Option<String>,
    model: Option<String>,
    adapter: Option<String>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    max_tokens: Option<i32>,
    timeout_ms: Option<i32>,
}

#[pg_extern(sql = "")]
fn generate_text(prompt: &str, options: JsonB) -> Result<String, ErrorReport> {
    let options = serde_json::from_value(options.0).map_err(Error::from)?;
    Ok(generated(prompt, options)?)
}

/// A text for each prompt, in order; fails where one of them does.
#[pg_extern(sql = "")]
fn generate_texts(
    prompts: Vec<Option<String>>,
    options: JsonB,
) -> Result<Vec<Option<String>>, ErrorReport> {
    let options: Options = serde_json::from_value(options.0).map_err(Error::from)?;
    Ok(all_generated(&prompts, &options)?)
}

/// A row for each piece as the model writes it.
#[pg_extern(sql = "")]
fn generate_text_stream(
    prompt: &str,
    options: JsonB,
) -> Result<SetOfIterator<'static, String>, ErrorReport> {
    let options = serde_json::from_value(options.0).map_err(Error::from)?;
    let (request, deadline) = request(prompt, options)?;
    let mut stream = TextStream::open(&request, deadline)?;
    Ok(SetOfIterator::new(client_output::row_by_row(move || {
        stream
            .next_piece()
            .map_err(ErrorReport::from)
            .unwrap_or_report()
    })))
}

fn generated(prompt: &str, options: Options) -> Result<String, Error> {
    let (request, deadline) = request(prompt, options)?;
    Ok(generation::generate(&request, deadline)?.text)
}

fn all_generated(
    prompts: &[Option<String>],
    options: &Options,
) -> Result<Vec<Option<String>>, Error> {
    let deadline = Deadline::from_argument(options.timeout_ms)?;
    let requests = prompts.iter().flatten().map(|prompt| {
        let (request, _) = request(prompt, options.clone())?;
        Ok(request)
    });
    let requests = requests.collect::<Result<Vec<GenerationRequest>, Error>>()?;
    let _shown = Shown::begin("generate", requests.len());
    let drafts = generate_all(&Batch {
        size: requests.len(),
        request: &|place| requests[place].clone(),
        deadline,
        overload: Overload::Wait,
    })?;
    let mut drafts = drafts.into_iter();
    let texts = prompts.iter().map(|prompt| match prompt {
        None => Ok(None),
        Some(_) => Ok(drafts.next().transpose()?.map(|draft| draft.text)),
    });
    texts.collect()
}

fn request(prompt: &str, options: Options) -> Result<(GenerationRequest, Deadline), Error> {
    if prompt.trim().is_empty() {
        return Err(Error::argument("prompt must not be empty"));
    }
    let deadline = Deadline::from_argument(options.timeout_ms)?;
    let request = GenerationRequest::try_from(message(prompt, options)?)?;
    Ok((request, deadline))
}

/// The contract's own message, whose limits are then checked in one place.
fn message(prompt: &str, options: Options) -> Result<wire::GenerateRequest, Error> {
    let tokens_max = options.max_tokens.unwrap_or(256);
    let tokens_max = u32::try_from(tokens_max).ok().filter(|&tokens| tokens > 0);
    let say = |role: &str, content: String| wire::Message {
        role: role.to_owned(),
        content,
    };
    let system = options.system.map(|system| say("system", system));
    let prompt = say("user", prompt.to_owned());
    Ok(wire::GenerateRequest {
        model: options.model.unwrap_or_default(),
        adapter: options.adapter.unwrap_or_default(),
        messages: system.into_iter().chain([prompt]).collect(),
        tokens_max: tokens_max.ok_or_else(|| Error::argument("max_tokens must be at least 1"))?,
        sampling: Some(wire::Sampling {
            temperature: options.temperature.unwrap_or(0.0),
            top_p: options.top_p.unwrap_or(1.0),
            seed: options.seed.unwrap_or(0).unsigned_abs(),
            ..wire::Sampling::default()
        }),
        json_schema: options.json_schema.unwrap_or_default(),
        regex: options.regex.unwrap_or_default(),
        choices: options.choices.unwrap_or_default(),
        priority: wire::Priority::Interactive.into(),
        ..wire::GenerateRequest::default()
    })
}
