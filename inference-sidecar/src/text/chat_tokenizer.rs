//! A language model's side of text: prompts from conversations, and when an answer has ended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proto::model::ChatMessage;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::text::chat_template::{ChatTemplate, TemplateMessage};
use crate::text::control_tokens::{ControlTokens, Part};
use crate::text::text_tokenizer::Encoder;
use crate::text::vocabulary::Vocabulary;
use crate::text::{TextTokenizer, directory_tokenizer, gguf_tokenizer};

/// Spellings that end a turn in some templates, beside the file's own end token.
const TURN_ENDS: [&str; 6] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "</s>",
];

/// Tokenizer and chat template of one language model.
pub struct ChatTokenizer {
    text: TextTokenizer,
    /// Encodes a text that follows a control token, where that differs from the beginning.
    after_control: Option<Encoder>,
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

/// What a model's files say of its conversations.
pub(super) struct ChatParts {
    /// Names the file in errors.
    pub path: PathBuf,
    pub vocabulary: Vocabulary,
    /// Spelling and id of the token that begins a text.
    pub bos: Option<(String, u32)>,
    /// Whether every prompt begins with it.
    pub adds_bos: bool,
    /// Spelling of the token that ends a text, for the template.
    pub eos: String,
    /// What ends an answer, the usual one first.
    pub ends: Vec<u32>,
    /// Jinja
    pub template: String,
}

impl ChatTokenizer {
    /// Reads vocabulary, special tokens and template from a GGUF file.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, Error> {
        Self::from_parts(gguf_tokenizer::read(file)?)
    }

    /// Reads vocabulary, special tokens and template from a directory in the form of Hugging Face:
    /// `tokenizer.json`, `tokenizer_config.json`, and `chat_template.jinja` and
    /// `generation_config.json` where they are present.
    pub fn from_directory(directory: &Path) -> Result<Self, Error> {
        Self::from_parts(directory_tokenizer::read(directory)?)
    }

    fn from_parts(parts: ChatParts) -> Result<Self, Error> {
        let refuse = |reason: String| Error::model_file(&parts.path, reason);
        let vocabulary = parts.vocabulary;
        let control_ids: BTreeSet<u32> = vocabulary.control.iter().map(|&(_, id)| id).collect();
        let control = ControlTokens::new(vocabulary.control);
        let Some(&end) = parts.ends.first() else {
            return Err(refuse("no token that ends an answer is named".into()));
        };
        let turn_ends = TURN_ENDS.iter().filter_map(|end| control.id(end));
        let ends: BTreeSet<u32> = parts.ends.iter().copied().chain(turn_ends).collect();
        if let Some(id) = ends
            .iter()
            .find(|&&id| id as usize >= vocabulary.bytes.len())
        {
            return Err(refuse(format!("end token {id} is not in the vocabulary")));
        }

        let bos_spelling = parts.bos.as_ref().map_or("", |(spelling, _)| spelling);
        let template = ChatTemplate::new(&parts.template, bos_spelling, &parts.eos)
            .map_err(|error| refuse(format!("bad chat template: {error}")))?;
        let bos = parts.bos.filter(|_| parts.adds_bos).map(|(_, id)| id);
        let trial = [TemplateMessage {
            role: "user",
            content: "hello".into(),
        }];
        if !template.render(&trial)?.contains("hello") {
            return Err(refuse("the chat template drops messages".into()));
        }
        Ok(Self {
            text: TextTokenizer::new(vocabulary.plain, bos.into_iter().collect()),
            after_control: vocabulary.plain_after_control,
            control,
            template,
            bos,
            ends,
            end,
            control_ids,
            bytes: vocabulary.bytes,
        })
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
            match (part, &self.after_control) {
                (Part::Control(id), _) => tokens.push(id),
                // Neighbouring parts are never both text, so this one follows a control token.
                (Part::Text(text), Some(encoder)) if !tokens.is_empty() => {
                    tokens.extend(encoder.encode(&text)?);
                }
                (Part::Text(text), _) => tokens.extend(self.text.encode(&text)?),
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
