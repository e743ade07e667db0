//! A language model's side of text: prompts from conversations, and when an answer has ended.

use std::collections::BTreeSet;

use proto::model::ChatMessage;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::text::chat_template::{ChatTemplate, TemplateMessage};
use crate::text::control_tokens::{ControlTokens, Part};
use crate::text::{TextTokenizer, gguf_tokenizer};

/// Spellings that end a turn in some templates, beside the file's own end token.
const TURN_ENDS: [&str; 4] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>"];

/// Tokenizer and chat template of one language model.
pub struct ChatTokenizer {
    text: TextTokenizer,
    control: ControlTokens,
    template: ChatTemplate,
    /// Comes first in every prompt of models that want it.
    bos: Option<u32>,
    ends: BTreeSet<u32>,
    /// The end that the model's own files name first.
    end: u32,
    control_ids: BTreeSet<u32>,
    bytes: Vec<Box<[u8]>>,
}

impl ChatTokenizer {
    /// Reads vocabulary, special tokens and template from a GGUF file.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, Error> {
        let vocabulary = gguf_tokenizer::read(file)?;
        let control_ids = vocabulary.control.iter().map(|&(_, id)| id).collect();
        let control = ControlTokens::new(vocabulary.control);
        let tokens = file.texts("tokenizer.ggml.tokens")?;
        let spelling = |id: u32| tokens.get(id as usize).copied().unwrap_or_default();

        let bos = special_token(file, "bos", tokens.len())?;
        let eos = special_token(file, "eos", tokens.len())?
            .ok_or_else(|| file.refuse("\"tokenizer.ggml.eos_token_id\" is missing"))?;
        let ends = TURN_ENDS
            .iter()
            .filter_map(|end| control.id(end))
            .chain([eos])
            .collect();

        let source = file.text("tokenizer.chat_template")?;
        let template = ChatTemplate::new(source, bos.map_or("", spelling), spelling(eos))
            .map_err(|error| file.refuse(format!("bad chat template: {error}")))?;

        // Llama 3 files may leave the flag out; their tokenizer is known to want BOS.
        let wants_bos = match file.has("tokenizer.ggml.add_bos_token") {
            true => file.flag("tokenizer.ggml.add_bos_token")?,
            false => file.text("tokenizer.ggml.pre")? == "llama-bpe",
        };
        let bos = bos.filter(|_| wants_bos);
        let text = TextTokenizer::new(vocabulary.plain, bos.into_iter().collect());
        let tokenizer = Self {
            text,
            control,
            template,
            bos,
            ends,
            end: eos,
            control_ids,
            bytes: vocabulary.bytes,
        };
        let trial = [TemplateMessage {
            role: "user",
            content: "hello".into(),
        }];
        if !tokenizer.template.render(&trial)?.contains("hello") {
            return Err(file.refuse("the chat template drops messages"));
        }
        Ok(tokenizer)
    }

    /// The tokens after which the assistant speaks. Control tokens come from the template only.
    pub fn prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, Error> {
        let messages: Vec<_> = messages
            .iter()
            .map(|message| TemplateMessage {
                role: message.role.name(),
                content: self.control.defuse(&message.content),
            })
            .collect();
        let rendered = self.template.render(&messages)?;
        let mut tokens = Vec::new();
        for part in self.control.split(&rendered) {
            match part {
                Part::Control(id) => tokens.push(id),
                Part::Text(text) => tokens.extend(self.text.encode(&text)?),
            }
        }
        if let Some(bos) = self.bos
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// True when `token` ends the answer.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The end token that the model's own files name first.
    pub fn end_token(&self) -> u32 {
        self.end
    }

    /// True when `token` frames conversations and stands for no text.
    pub fn is_control(&self, token: u32) -> bool {
        self.control_ids.contains(&token)
    }

    /// Number of token ids, control tokens included; ids are below it.
    pub fn vocabulary_size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that `token` stands for; none for control tokens.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// The tokenizer for plain text.
    pub fn text(&self) -> &TextTokenizer {
        &self.text
    }
}

fn special_token(file: &GgufFile, name: &str, tokens: usize) -> Result<Option<u32>, Error> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    if !file.has(&key) {
        return Ok(None);
    }
    let id = file.count_in(&key, 0..=tokens.saturating_sub(1))?;
    u32::try_from(id)
        .map(Some)
        .map_err(|_| file.refuse(format!("\"{key}\" is too large")))
}
