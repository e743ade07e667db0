//! A question with its evidence, before anybody answers.

use domain::answer::{self, Abstention, Answer, Evidence};
use domain::prompt_template::{PromptTemplate, Task};
use serde_json::Value;

use super::evidence_rows;
use super::options::{Method, Options};
use super::permission::reads_nothing;
use super::similarity::similarities;
use super::timings::Timings;
use crate::error::Error;
use crate::generation;
use crate::prompt_templates::{Chosen, Wanted};
use crate::sidecar::Deadline;

pub struct Asked {
    pub question: String,
    pub evidence: Vec<Evidence>,
    pub options: Options,
    pub deadline: Deadline,
    pub timings: Timings,
    /// Of the template that the model is asked by, once it is.
    pub prompt_version: Option<i32>,
    /// Of the question with each sentence of the evidence.
    pub similarities: Vec<f32>,
}

impl Asked {
    pub fn read(question: &str, evidence: Value, options: Value) -> Result<Self, Error> {
        let options: Options = serde_json::from_value(options)?;
        // Also where the answer then needs no model.
        generation::checked_context(options.model.as_deref(), options.adapter.as_deref())?;
        let mut asked = Self {
            question: question.to_owned(),
            evidence: evidence_rows::read(evidence)?,
            deadline: Deadline::from_argument(options.timeout_ms)?,
            options,
            timings: Timings::default(),
            prompt_version: None,
            similarities: Vec::new(),
        };
        if !asked.evidence.is_empty() {
            let (evidence, deadline) = (&asked.evidence, asked.deadline);
            asked.similarities = asked.timings.take("similarity_ms", || {
                similarities(question, evidence, deadline)
            })?;
        }
        Ok(asked)
    }

    /// Whether the evidence has anything to do with the question.
    pub fn is_related(&self) -> bool {
        !self.evidence.is_empty()
            && answer::is_related(&self.question, &self.evidence, &self.similarities)
    }

    /// Whether a language model is to be asked.
    pub fn wants_model(&self) -> bool {
        self.options.method != Some(Method::Extractive)
    }

    /// The template that the model is asked by: the active one, or the one that was named.
    pub fn choose_template(&mut self) -> Result<PromptTemplate, Error> {
        let wanted = Wanted {
            task: Task::Insight,
            version: self.options.prompt_version,
            model: self.options.model.as_deref(),
            adapter: self.options.adapter.as_deref(),
            deadline: self.deadline,
        };
        let Chosen { version, template } = wanted.choose()?;
        self.prompt_version = Some(version);
        Ok(template)
    }

    /// The answer by what the model wrote; None when there is none.
    pub fn outcome(&self, text: Option<&str>) -> Result<Answer, Abstention> {
        let extracted =
            || answer::extract_answer(&self.question, &self.evidence, &self.similarities);
        let judged = text.map(|text| answer::judge_answer(text, &self.question, &self.evidence));
        let answer = match (judged, self.options.method) {
            (Some(judged), Some(Method::Generated)) => judged,
            (Some(judged), _) => judged.or_else(|_| extracted()),
            (None, Some(Method::Generated)) => Err(Abstention::ModelUnavailable),
            (None, _) => extracted(),
        };
        answer.and_then(|answer| answer::weigh_answer(answer, &self.question, &self.evidence))
    }

    /// Why there is nothing to answer from. Who may see nothing is told so; what others could see is not looked at.
    pub fn unrelated(&self) -> Result<Abstention, Error> {
        let is_hidden = self.evidence.is_empty() && reads_nothing()?;
        Ok(match is_hidden {
            true => Abstention::NotPermitted,
            false => Abstention::NoMatch,
        })
    }
}
