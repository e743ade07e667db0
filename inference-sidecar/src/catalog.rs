//! What is served: each model's card, tokenizer and queue.

use std::sync::Arc;

use proto::model::ModelChoice;

use crate::error::Error;
use crate::scheduler::{ConstraintCompiler, EmbeddingJob, GenerationJob, JobQueue};
use crate::text::{ChatTokenizer, TextTokenizer};

/// All models of the server, defaults first.
pub struct Catalog {
    pub embedding: Vec<EmbeddingEntry>,
    pub reranking: Vec<RerankingEntry>,
    pub language: Vec<LanguageEntry>,
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

/// A cross-encoder: the worker behind `queue` owns the weights.
pub struct RerankingEntry {
    pub card: ModelCard,
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

/// An embedding or language model, for work that needs only its tokenizer.
#[derive(Clone, Copy)]
pub enum Entry<'a> {
    Embedding(&'a EmbeddingEntry),
    Language(&'a LanguageEntry),
}

impl Catalog {
    pub fn embedding(&self, choice: &ModelChoice) -> Result<&EmbeddingEntry, Error> {
        chosen(&self.embedding, |entry| &entry.card, choice)
            .ok_or_else(|| not_found("embedding", choice))
    }

    pub fn reranking(&self, choice: &ModelChoice) -> Result<&RerankingEntry, Error> {
        chosen(&self.reranking, |entry| &entry.card, choice)
            .ok_or_else(|| not_found("reranking", choice))
    }

    pub fn language(&self, choice: &ModelChoice) -> Result<&LanguageEntry, Error> {
        chosen(&self.language, |entry| &entry.card, choice)
            .ok_or_else(|| not_found("language", choice))
    }

    /// An embedding or language model by name; the default embedding model otherwise.
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
        self.reranking.iter().for_each(|entry| entry.queue.close());
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

/// The model of that name, or the first.
fn chosen<'a, T>(
    entries: &'a [T],
    card: impl Fn(&T) -> &ModelCard,
    choice: &ModelChoice,
) -> Option<&'a T> {
    match choice.name() {
        None => entries.first(),
        Some(name) => entries.iter().find(|entry| card(entry).name == name),
    }
}

fn not_found(kind: &'static str, choice: &ModelChoice) -> Error {
    Error::ModelNotFound {
        kind,
        name: choice.name().unwrap_or("(default)").to_owned(),
    }
}
