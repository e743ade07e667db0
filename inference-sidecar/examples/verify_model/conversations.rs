//! Fifty conversations as Llama 3.1's tokenizer and template at Hugging Face write them.

use inference_sidecar::text::ChatTokenizer;
use proto::model::{ChatMessage, Role};

use crate::Outcome;

/// Entries of Llama 3's vocabulary.
const LLAMA_3_VOCABULARY: usize = 128_256;

#[derive(serde::Deserialize)]
struct Fixture {
    conversations: Vec<Conversation>,
}

#[derive(serde::Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    ids: Vec<u32>,
}

#[derive(serde::Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// Compares the tokens of all conversations, if the model has Llama 3's vocabulary.
pub fn check(tokenizer: &ChatTokenizer) -> anyhow::Result<Outcome> {
    if tokenizer.vocabulary_size() != LLAMA_3_VOCABULARY {
        return Ok(Outcome::Skipped(
            "the vocabulary is not that of Llama 3".into(),
        ));
    }
    let json = include_str!("../../tests/fixtures/llama31_prompts.json");
    let fixture: Fixture = serde_json::from_str(json)?;
    let mut different = Vec::new();
    for (number, conversation) in (1..).zip(&fixture.conversations) {
        let messages: Vec<ChatMessage> = conversation.messages.iter().map(checked).collect();
        if tokenizer.prompt(&messages)? != conversation.ids {
            different.push(number);
        }
    }
    let count = fixture.conversations.len();
    Ok(if different.is_empty() {
        Outcome::Ok(format!("{count} conversations equal Hugging Face's"))
    } else {
        Outcome::Failed(format!("of {count} conversations differ: {different:?}"))
    })
}

fn checked(message: &Message) -> ChatMessage {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        _ => Role::User,
    };
    ChatMessage {
        role,
        content: message.content.clone(),
    }
}
