//! What the callers ask.

use proto::model::{
    AdapterChoice, Caller, ChatMessage, Constraint, GenerationRequest, ModelChoice, Priority, Role,
    Sampling,
};
use serde_json::Value;

/// Questions of different lengths; the last ones share a long beginning.
pub const QUESTIONS: usize = 10;
/// Tokens of a plain answer.
const ANSWER_TOKENS: u32 = 32;
const JSON_TOKENS: u32 = 120;

/// The text of question `index`.
pub fn question(index: usize) -> String {
    let shared = "A buyer of a logistics company wrote: we have forty trucks and two depots, \
                  and our planners use spreadsheets. "
        .repeat(3);
    match index {
        0 => "What is the capital of France?".to_owned(),
        1 => "Count from one to ten.".to_owned(),
        2 => "Name three colours.".to_owned(),
        3 => "Why is the sky blue? Answer in one sentence.".to_owned(),
        4 => "Write a greeting for a customer.".to_owned(),
        5 => "Translate to German: good morning.".to_owned(),
        6 => "Which day follows Monday?".to_owned(),
        7 => format!("{shared}What do they use?"),
        8 => format!("{shared}How many trucks do they have?"),
        _ => format!("{shared}Write one question that a seller should ask."),
    }
}

/// The greedy request for question `index`, with an adapter or none.
pub fn plain(index: usize, adapter: Option<&str>) -> GenerationRequest {
    GenerationRequest {
        model: ModelChoice::Default,
        adapter: adapter.map(|name| AdapterChoice {
            name: name.to_owned(),
            generation: None,
        }),
        messages: vec![ChatMessage {
            role: Role::User,
            content: question(index),
        }],
        tokens_max: ANSWER_TOKENS,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        constraint: None,
        top_logprobs: 0,
        priority: Priority::Interactive,
        caller: Caller::default(),
    }
}

/// JSON schemas whose values a short program can check.
const SCHEMAS: [&str; 3] = [
    r#"{"type":"object","properties":{"name":{"type":"string","maxLength":20},"age":{"type":"integer"}},
        "required":["name","age"],"additionalProperties":false}"#,
    r#"{"type":"array","items":{"enum":["red","green","blue"]},"minItems":1,"maxItems":5}"#,
    r#"{"type":"object","properties":{"answer":{"type":"boolean"}},"required":["answer"],
        "additionalProperties":false}"#,
];

/// A request for JSON of schema `index`, answered by chance.
pub fn json(index: usize, seed: u64) -> GenerationRequest {
    GenerationRequest {
        tokens_max: JSON_TOKENS,
        sampling: Sampling::nucleus(1.0, 0.95, seed),
        constraint: Some(Constraint::JsonSchema(
            SCHEMAS[index % SCHEMAS.len()].to_owned(),
        )),
        ..plain(index % QUESTIONS, None)
    }
}

/// True when `text` obeys schema `index`.
pub fn obeys(index: usize, text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    match index % SCHEMAS.len() {
        0 => value.as_object().is_some_and(|object| {
            let name = object.get("name").and_then(Value::as_str);
            let age = object.get("age").and_then(Value::as_number);
            object.len() == 2
                && name.is_some_and(|name| name.chars().count() <= 20)
                && age.is_some_and(|age| age.as_f64().is_some_and(|age| age.fract() == 0.0))
        }),
        1 => value.as_array().is_some_and(|items| {
            let is_colour = |item: &Value| matches!(item.as_str(), Some("red" | "green" | "blue"));
            (1..=5).contains(&items.len()) && items.iter().all(is_colour)
        }),
        _ => value.as_object().is_some_and(|object| {
            object.len() == 1 && object.get("answer").is_some_and(Value::is_boolean)
        }),
    }
}
