//! One question about each of many texts.

use std::cell::RefCell;

use domain::operators::{Form, Operator, Question};
use proto::limits::MESSAGE_BYTES_MAX;
use proto::model::{Constraint, GenerationRequest};
use serde::Serialize;
use serde_json::Value;

use super::application::Application;
use super::document_error::DocumentError;
use super::statistics::count;
use crate::error::Error;
use crate::generation::{Batch, Draft, Overload, Prompted, generate_all};
use crate::progress::Shown;
use crate::prompt_templates::{Chosen, Wanted};
use crate::sidecar::Deadline;
use crate::usage::{self, Measure};

/// Bytes of a text; the rules beside it have room.
const TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (128 << 10);

/// An operator, and how it is applied.
pub struct Asking<'a> {
    pub name: &'a str,
    pub operator: &'a Operator,
    pub deadline: Deadline,
    application: &'a Application,
    /// The same for all texts of the call.
    prompt: Chosen,
    /// Who answered last.
    pub maker: RefCell<Option<Maker>>,
}

/// The weights, the generation of the adapter and the version of the prompt template that answered.
#[derive(Debug, Clone, Serialize)]
pub struct Maker {
    model: String,
    model_sha256: String,
    adapter_generation: u64,
    prompt_version: i32,
}

impl<'a> Asking<'a> {
    pub fn new(
        name: &'a str,
        operator: &'a Operator,
        application: &'a Application,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let wanted = Wanted {
            task: operator.task(),
            version: application.prompt_version,
            model: application.model.as_deref(),
            adapter: application.adapter.as_deref(),
            deadline,
        };
        Ok(Self {
            name,
            operator,
            deadline,
            application,
            prompt: wanted.choose()?,
            maker: RefCell::default(),
        })
    }

    /// What the model says of each text.
    pub fn values(&self, texts: &[&str]) -> Result<Vec<Result<Value, DocumentError>>, Error> {
        let is_sent: Vec<bool> = texts.iter().map(|text| self.fits(text)).collect();
        let sent: Vec<&str> = texts
            .iter()
            .zip(&is_sent)
            .filter_map(|(text, is_sent)| is_sent.then_some(*text))
            .collect();
        let before = usage::total();
        let _shown = Shown::begin(self.name, sent.len());
        let drafts = generate_all(&Batch {
            size: sent.len(),
            request: &|place| self.request(self.question(sent[place])),
            deadline: self.deadline,
            overload: Overload::Wait,
        })?;
        if let Some(draft) = drafts.iter().flatten().last() {
            self.maker.replace(Some(Maker {
                model: draft.started.model.clone(),
                model_sha256: draft.started.model_sha256.clone(),
                adapter_generation: draft.started.adapter_generation,
                prompt_version: self.prompt.version,
            }));
        }
        let used = usage::total() - before;
        let is_cut = |draft: &&Draft| draft.is_cut() && !draft.is_remembered;
        let shortened = drafts.iter().flatten().filter(is_cut).count();
        count(self.name, |sums| {
            sums.generations += used.get(Measure::Generations);
            sums.remembered += used.get(Measure::Remembered);
            sums.shortened += i64::try_from(shortened).unwrap_or(i64::MAX);
            sums.prompt_tokens += used.get(Measure::PromptTokens);
            sums.completion_tokens += used.get(Measure::CompletionTokens);
        });
        let mut drafts = drafts.into_iter();
        let values = texts.iter().zip(is_sent).map(|(text, is_sent)| {
            if !is_sent {
                return Err(DocumentError::TooLong(TEXT_BYTES_MAX));
            }
            let draft = drafts.next().ok_or(DocumentError::NoAnswer)??;
            let value = self.operator.value(&draft.text, draft.is_cut(), text);
            value.ok_or(DocumentError::NoAnswer)
        });
        Ok(values.collect())
    }

    /// Whether it can be sent. A bracket of a mark takes three bytes once it is replaced.
    fn fits(&self, text: &str) -> bool {
        text.len() <= TEXT_BYTES_MAX / 3
            || (text.len() <= TEXT_BYTES_MAX && self.question(text).user.len() <= TEXT_BYTES_MAX)
    }

    fn question(&self, text: &str) -> Question {
        self.operator.question(&self.prompt.template, text)
    }

    fn request(&self, question: Question) -> GenerationRequest {
        GenerationRequest {
            constraint: match question.form {
                Form::Text => None,
                Form::Choices(choices) => Some(Constraint::Choices(choices)),
                Form::JsonSchema(schema) => Some(Constraint::JsonSchema(schema)),
            },
            ..Prompted {
                model: self.application.model.clone(),
                adapter: self.application.adapter.clone(),
                system: question.system,
                user: question.user,
                tokens_max: question.tokens_max,
            }
            .into()
        }
    }
}
