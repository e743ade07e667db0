//! Loads the models one after another; each must answer a warm-up call before its worker starts.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::catalog::{Catalog, EmbeddingEntry, LanguageEntry, ModelCard};
use crate::config::{Config, Named};
use crate::error::Error;
use crate::gguf::GgufFile;
use crate::models::{
    BertEmbedder, EmbeddingModel, Llama, LlamaOptions, SequentialModel, fingerprint,
};
use crate::scheduler::{Counters, JobQueue, Worker};
use crate::text::{ChatTokenizer, TextTokenizer};

const MIB: u64 = 1 << 20;

/// The models of `config`, ready to serve, and the workers behind them. Takes seconds.
pub fn load(config: &Config, counters: &Arc<Counters>) -> Result<(Catalog, Vec<Worker>), Error> {
    check_names(config)?;
    let mut workers = Vec::new();
    let mut embedding = Vec::new();
    for model in &config.embedding_models {
        let load = || load_embedding(config, model, counters);
        let (entry, worker) = guard(&model.value, load)?;
        embedding.push(entry);
        workers.push(worker);
    }
    let mut language = Vec::new();
    for model in &config.language_models {
        let load = || load_language(config, model, counters);
        let (entry, worker) = guard(&model.value, load)?;
        language.push(entry);
        workers.push(worker);
    }
    Ok((Catalog::new(embedding, language), workers))
}

fn check_names(config: &Config) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for model in config
        .embedding_models
        .iter()
        .chain(&config.language_models)
    {
        if !names.insert(&model.name) {
            return Err(Error::DuplicateName {
                name: model.name.clone(),
            });
        }
    }
    Ok(())
}

/// Runs `load`; the readers of model files panic on some broken files instead of failing.
fn guard<T>(path: &Path, load: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(load))
        .unwrap_or_else(|_| Err(Error::model_file(path, "the file is malformed")))
}

fn load_embedding(
    config: &Config,
    model: &Named<PathBuf>,
    counters: &Arc<Counters>,
) -> Result<(EmbeddingEntry, Worker), Error> {
    let start = Instant::now();
    let weights = BertEmbedder::weights_path(&model.value);
    let fingerprint = fingerprint(&weights, config.expected_sha256(&model.name))?;
    let tokenizer = TextTokenizer::from_directory(&model.value)?;
    let embedder = BertEmbedder::load(&model.value)?;
    if tokenizer.vocabulary_size() > embedder.vocabulary_size() {
        let reason = "the tokenizer knows more tokens than the model";
        return Err(Error::model_file(&model.value, reason));
    }
    let dimensions = embedder.dimensions();
    let card = ModelCard {
        name: model.name.clone(),
        tokens_max: embedder.tokens_max(),
        sha256: fingerprint.sha256,
        weight_bytes: fingerprint.bytes,
    };
    let warm_up = tokenizer.with_special_tokens(&tokenizer.encode("warm up")?);
    embedder.embed(&[&warm_up])?;

    let queue = Arc::new(JobQueue::new(counters.clone()));
    let worker = Worker::start(&format!("embed {}", card.name), queue.clone(), {
        let counters = counters.clone();
        move |job| crate::scheduler::EmbeddingJob::run(job, &embedder, &counters)
    })?;
    log_loaded(&card, start);
    Ok((
        EmbeddingEntry {
            card,
            dimensions,
            tokenizer: Arc::new(tokenizer),
            queue,
        },
        worker,
    ))
}

fn load_language(
    config: &Config,
    model: &Named<PathBuf>,
    counters: &Arc<Counters>,
) -> Result<(LanguageEntry, Worker), Error> {
    let start = Instant::now();
    let fingerprint = fingerprint(&model.value, config.expected_sha256(&model.name))?;
    let mut file = GgufFile::open(&model.value)?;
    let tokenizer = ChatTokenizer::from_gguf(&file)?;
    let options = LlamaOptions {
        tokens_max: config.context_tokens as usize,
        dequantize_below_bytes: config.dequantize_below_mib.saturating_mul(MIB),
    };
    let llama = Llama::load(&mut file, options)?;
    let card = ModelCard {
        name: model.name.clone(),
        tokens_max: llama.tokens_max(),
        sha256: fingerprint.sha256,
        weight_bytes: fingerprint.bytes,
    };
    let warm_up = tokenizer.text().encode("warm up")?;
    let logits = llama.new_sequence()?.append(&warm_up)?;
    if logits.iter().any(|logit| !logit.is_finite()) {
        return Err(Error::NotANumber);
    }

    let queue = Arc::new(JobQueue::new(counters.clone()));
    let worker = Worker::start(&format!("generate {}", card.name), queue.clone(), {
        let counters = counters.clone();
        move |job| crate::scheduler::GenerationJob::run(job, &llama, &counters)
    })?;
    log_loaded(&card, start);
    Ok((
        LanguageEntry {
            card,
            tokenizer: Arc::new(tokenizer),
            queue,
        },
        worker,
    ))
}

fn log_loaded(card: &ModelCard, start: Instant) {
    tracing::info!(
        model = card.name,
        tokens_max = card.tokens_max,
        weight_bytes = card.weight_bytes,
        sha256 = card.sha256,
        run_ms = start.elapsed().as_millis() as u64,
        "model loaded"
    );
}
