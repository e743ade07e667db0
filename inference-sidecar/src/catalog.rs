//! What is served: each model's card, tokenizer and queue.

use std::sync::Arc;

use proto::model::ModelChoice;

use crate::error::Error;
use crate::scheduler::{ConstraintCompiler, EmbeddingJob, GenerationJob, JobQueue};
use crate::text::{ChatTokenizer, TextTokenizer};

/// All models of the server, defaults first.
pub struct Catalog {
    embedding: Vec<EmbeddingEntry>,
    language: Vec<LanguageEntry>,
}

/// What clients may know of a model.
#[derive(Debug, Clone)]
pub struct ModelCard {
    pub name: String,
    pub tokens_max: usize,
    pub sha256: String,
    pub weight_bytes: u64,
}

/// An embedding model: the worker behind `queue` owns the weights.
pub struct EmbeddingEntry {
    pub card: ModelCard,
    pub dimensions: usize,
    pub tokenizer: Arc<TextTokenizer>,
    pub queue: Arc<JobQueue<EmbeddingJob>>,
}

/// A language model: the engine behind `queue` owns the weights.
pub struct LanguageEntry {
    pub card: ModelCard,
    pub tokenizer: Arc<ChatTokenizer>,
    pub constraints: Arc<ConstraintCompiler>,
    pub queue: Arc<JobQueue<GenerationJob>>,
}

/// A model of either kind, for work that needs only its tokenizer.
#[derive(Clone, Copy)]
pub enum Entry<'a> {
    Embedding(&'a EmbeddingEntry),
    Language(&'a LanguageEntry),
}

impl Catalog {
    pub fn new(embedding: Vec<EmbeddingEntry>, language: Vec<LanguageEntry>) -> Self {
        Self {
            embedding,
            language,
        }
    }

    pub fn embedding_models(&self) -> &[EmbeddingEntry] {
        &self.embedding
    }

    pub fn language_models(&self) -> &[LanguageEntry] {
        &self.language
    }

    pub fn embedding(&self, choice: &ModelChoice) -> Result<&EmbeddingEntry, Error> {
        let found = match choice.name() {
            None => self.embedding.first(),
            Some(name) => self.embedding.iter().find(|entry| entry.card.name == name),
        };
        found.ok_or_else(|| not_found("embedding", choice))
    }

    pub fn language(&self, choice: &ModelChoice) -> Result<&LanguageEntry, Error> {
        let found = match choice.name() {
            None => self.language.first(),
            Some(name) => self.language.iter().find(|entry| entry.card.name == name),
        };
        found.ok_or_else(|| not_found("language", choice))
    }

    /// A model of any kind by name; the default embedding model otherwise.
    pub fn any(&self, choice: &ModelChoice) -> Result<Entry<'_>, Error> {
        match self.embedding(choice) {
            Ok(entry) => Ok(Entry::Embedding(entry)),
            Err(error) if *choice == ModelChoice::Default => Err(error),
            Err(_) => Ok(Entry::Language(
                self.language(choice)
                    .map_err(|_| not_found("embedding or language", choice))?,
            )),
        }
    }

    /// Takes no more jobs; running ones go on.
    pub fn close_queues(&self) {
        self.embedding.iter().for_each(|entry| entry.queue.close());
        self.language.iter().for_each(|entry| entry.queue.close());
    }
}

impl<'a> Entry<'a> {
    pub fn card(self) -> &'a ModelCard {
        match self {
            Entry::Embedding(entry) => &entry.card,
            Entry::Language(entry) => &entry.card,
        }
    }

    pub fn tokenizer(self) -> EntryTokenizer {
        match self {
            Entry::Embedding(entry) => EntryTokenizer::Text(entry.tokenizer.clone()),
            Entry::Language(entry) => EntryTokenizer::Chat(entry.tokenizer.clone()),
        }
    }
}

/// A shared tokenizer that can move to another thread.
pub enum EntryTokenizer {
    Text(Arc<TextTokenizer>),
    Chat(Arc<ChatTokenizer>),
}

impl EntryTokenizer {
    pub fn text(&self) -> &TextTokenizer {
        match self {
            EntryTokenizer::Text(tokenizer) => tokenizer,
            EntryTokenizer::Chat(tokenizer) => tokenizer.text(),
        }
    }
}

fn not_found(kind: &'static str, choice: &ModelChoice) -> Error {
    Error::ModelNotFound {
        kind,
        name: choice.name().unwrap_or("(default)").to_owned(),
    }
}
