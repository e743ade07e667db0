//! What the model is asked: the question and as much of the evidence as its window has room for.

use domain::answer::{Evidence, PromptRoom, build_prompt, countable_texts, pack_evidence};
use domain::prompt_template::PromptTemplate;
use proto::limits::TEXT_BYTES_MAX;
use proto::model::GenerationRequest;

use super::asked::Asked;
use crate::error::Error;
use crate::generation::Window;
use crate::sidecar::Deadline;

/// What the model's template puts around the messages, and what is lost where texts are counted apart.
const TEMPLATE_TOKENS: u32 = 64;

/// The request with all evidence, the best first, or with what is of most use of it.
pub fn packed_request(asked: &mut Asked) -> Result<GenerationRequest, Error> {
    let template = asked.choose_template()?;
    let whole = request(asked, &template, &asked.evidence)?;
    let Some(window) = Window::of(&whole, asked.deadline)? else {
        return Ok(whole);
    };
    let besides = TEMPLATE_TOKENS.saturating_add(whole.tokens_max);
    let tokens_max = window.tokens_max.saturating_sub(besides);
    if is_within(&window, &whole, tokens_max, asked.deadline)? {
        return Ok(whole);
    }
    let texts = countable_texts(&template, &asked.question, &asked.evidence);
    let room = PromptRoom {
        tokens_max,
        token_counts: window.count(texts, asked.deadline)?,
    };
    if room.holds_all() {
        return Ok(whole);
    }
    let shown = pack_evidence(&asked.question, &asked.evidence, &asked.similarities, &room);
    match shown.is_empty() {
        // Not even a sentence fits: the model says so.
        true => Ok(whole),
        false => request(asked, &template, &shown),
    }
}

/// Whether the messages have no more tokens, as one text: counted apart each sentence has its speaker too.
///
/// A text that is too long for that is counted apart alone.
fn is_within(
    window: &Window,
    request: &GenerationRequest,
    tokens_max: u32,
    deadline: Deadline,
) -> Result<bool, Error> {
    let messages = request.messages.iter();
    let contents: Vec<&str> = messages.map(|message| message.content.as_str()).collect();
    let text = contents.join("\n");
    // A token has at least one byte.
    if u32::try_from(text.len()).is_ok_and(|count| count <= tokens_max) {
        return Ok(true);
    }
    if text.len() > TEXT_BYTES_MAX {
        return Ok(false);
    }
    let counts = window.count(vec![text], deadline)?;
    Ok(counts.first().is_some_and(|&count| count <= tokens_max))
}

fn request(
    asked: &Asked,
    template: &PromptTemplate,
    shown: &[Evidence],
) -> Result<GenerationRequest, Error> {
    let prompt = build_prompt(template, &asked.question, shown);
    asked.options.request(prompt)
}
