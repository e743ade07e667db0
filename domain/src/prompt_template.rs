//! Prompt templates: what a model is told to do, in a text that a person may change. What asks in it, and what fences the
//! data, stays with the code.

use thiserror::Error;

use crate::fence::fenced;

/// Bytes of a template: most of a model's window belongs to the data.
pub const TEMPLATE_BYTES_MAX: usize = 8 << 10;

/// What a model is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Classify,
    IsTrue,
    Extract,
    Summarize,
    Agg,
    Insight,
}

impl Task {
    pub const ALL: [Self; 6] = [
        Self::Classify,
        Self::IsTrue,
        Self::Extract,
        Self::Summarize,
        Self::Agg,
        Self::Insight,
    ];

    pub fn named(name: &str) -> Result<Self, TemplateError> {
        let task = Self::ALL.into_iter().find(|task| task.name() == name);
        task.ok_or_else(|| TemplateError::UnknownTask(name.to_owned()))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::IsTrue => "is_true",
            Self::Extract => "extract",
            Self::Summarize => "summarize",
            Self::Agg => "agg",
            Self::Insight => "insight",
        }
    }

    /// What the caller names, which the text has a place for.
    pub fn placeholder(self) -> Option<&'static str> {
        match self {
            Self::Classify => Some("labels"),
            Self::IsTrue => Some("statement"),
            Self::Extract => Some("fields"),
            Self::Agg => Some("instruction"),
            Self::Summarize | Self::Insight => None,
        }
    }

    /// The text of version 1, in the form that others have.
    pub fn built_in_text(self) -> &'static str {
        match self {
            Self::Classify => {
                "You sort documents of a sales team. Answer with the one label that fits best: {labels}."
            }
            Self::IsTrue => {
                "You check a statement about a document. Answer yes if the document says so, no if it says \
                 otherwise, unclear if it does not say. Statement: {statement}"
            }
            Self::Extract => {
                "You extract fields from a document, as the document has them; null where it does not say. \
                 Fields:\n{fields}\n"
            }
            Self::Summarize => {
                "You summarise a document of a sales team in at most three sentences. \
                 Keep names, numbers and dates exactly as it has them."
            }
            Self::Agg => {
                "You work on a document of a sales team, or on notes that were made of its parts. \
                 Keep names, numbers and dates exactly as it has them. Task: {instruction}"
            }
            Self::Insight => {
                "You answer questions about sales conversations. \
                 Use only the numbered evidence. \
                 Answer in one or two short sentences and cite the evidence after each sentence, like [1]. \
                 Keep names, numbers and dates exactly as the evidence has them. \
                 If the evidence does not answer the question, say: The evidence does not say."
            }
        }
    }
}

/// A text that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptTemplate {
    before: String,
    /// What follows the place for what the caller names, if the task has one.
    after: Option<String>,
}

/// Why a text is no template.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("task \"{0}\" is unknown")]
    UnknownTask(String),
    #[error("a template must not be blank")]
    Blank,
    #[error("a template must not have more than {TEMPLATE_BYTES_MAX} bytes")]
    TooLong,
    #[error(
        "a template must not have marks of the prompt or of a chat, control or invisible characters"
    )]
    Mark,
    #[error("a brace that begins or ends no placeholder must be doubled")]
    Brace,
    #[error("placeholder \"{name}\" is unknown to task \"{task}\"")]
    UnknownPlaceholder { name: String, task: &'static str },
    #[error("placeholder \"{0}\" must stand in the template once")]
    NotOnce(&'static str),
}

impl TemplateError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownTask(_) => "Use classify, is_true, extract, summarize, agg or insight.",
            Self::Blank | Self::TooLong => "Say in short what is to be done.",
            Self::Mark => {
                "Leave out marks such as <document>, <|im_start|> or [INST]: the data is put between marks after the template."
            }
            Self::Brace => "Write {{ or }} for the character itself.",
            Self::UnknownPlaceholder { .. } | Self::NotOnce(_) => {
                "classify has {labels}, is_true {statement}, extract {fields}, agg {instruction}, summarize and insight none; \
                 documents, evidence and questions have their place after the template."
            }
        }
    }
}

impl PromptTemplate {
    /// Checks a text. It cannot hold what the code writes around data, so that nothing in it is taken for data or for its
    /// end.
    pub fn parse(task: Task, text: &str) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Blank);
        }
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        if fenced(text) != text.trim() {
            return Err(TemplateError::Mark);
        }
        Self::split(task, text)
    }

    /// Version 1 of a task.
    pub fn built_in(task: Task) -> Self {
        Self::split(task, task.built_in_text()).expect("a test parses every one")
    }

    /// The instructions, with what the caller names in its place; nothing in that is a placeholder any more.
    pub fn filled(&self, named: &str) -> String {
        match &self.after {
            Some(after) => [&self.before, named, after].concat(),
            None => self.before.clone(),
        }
    }

    fn split(task: Task, text: &str) -> Result<Self, TemplateError> {
        let mut parts = vec![String::new()];
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (plain, from) = rest.split_at(at);
            let last = parts.last_mut().expect("begins with one, never loses any");
            last.push_str(plain);
            if from.starts_with("{{") || from.starts_with("}}") {
                last.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let (name, after) = name.ok_or(TemplateError::Brace)?;
            if task.placeholder() != Some(name) {
                return Err(unknown_placeholder(task, name));
            }
            parts.push(String::new());
            rest = after;
        }
        if let Some(last) = parts.last_mut() {
            last.push_str(rest);
        }
        let mut parts = parts.into_iter();
        let before = parts.next().unwrap_or_default();
        match (task.placeholder(), parts.next(), parts.next()) {
            (None, after, _) | (Some(_), after @ Some(_), None) => Ok(Self { before, after }),
            (Some(name), ..) => Err(TemplateError::NotOnce(name)),
        }
    }
}

/// What is no name is a brace that was meant as one.
fn unknown_placeholder(task: Task, name: &str) -> TemplateError {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    match is_name {
        true => TemplateError::UnknownPlaceholder {
            name: name.to_owned(),
            task: task.name(),
        },
        false => TemplateError::Brace,
    }
}

#[cfg(test)]
#[path = "prompt_template_tests.rs"]
mod tests;
