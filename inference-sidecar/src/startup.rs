//! Loads the models one after another; each must answer a warm-up call before its worker starts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;

use crate::adapters::{AdapterLimits, AdapterRegistry};
use crate::catalog::{Catalog, EmbeddingEntry, LanguageEntry, ModelCard};
use crate::config::{
    Config, DeviceConfig, EmbeddingModelConfig, KvCacheDtype, LanguageModelConfig, Quantization,
};
use crate::error::Error;
use crate::gguf::GgufFile;
use crate::metrics::Metrics;
use crate::models::{
    AdapterBase, BertEmbedder, BertPrecision, Compute, EmbeddingModel, Fingerprint,
    KV_BLOCK_TOKENS, LanguageModel, Llama, LlamaOptions, Precision, fingerprint,
};
use crate::safetensors_model::SafetensorsModel;
use crate::scheduler::{
    ConstraintCompiler, Counters, Engine, EngineLimits, EngineParts, JobQueue, Worker,
};
use crate::text::{ChatTokenizer, TextTokenizer};

const MIB: u64 = 1 << 20;
/// A server that cannot hold this many tokens of one sequence is no use.
const TOKENS_MIN: usize = 64;

/// Everything that serves.
pub struct Loaded {
    pub catalog: Catalog,
    pub adapters: AdapterRegistry,
    pub workers: Vec<Worker>,
}

/// What all models share.
struct Loader<'a> {
    config: &'a Config,
    counters: &'a Arc<Counters>,
    metrics: &'a Metrics,
}

/// The weights and the tokenizer of a language model.
struct LanguageParts {
    llama: Llama,
    tokenizer: ChatTokenizer,
    fingerprint: Fingerprint,
}

/// Loads the models of `config` and starts the workers behind them. Takes seconds.
pub fn load(config: &Config, counters: &Arc<Counters>, metrics: &Metrics) -> Result<Loaded, Error> {
    let loader = Loader {
        config,
        counters,
        metrics,
    };
    let mut workers = Vec::new();
    let mut embedding = Vec::new();
    for model in &config.embedding_models {
        let (entry, worker) = guard(&model.path, || loader.load_embedding(model))?;
        embedding.push(entry);
        workers.push(worker);
    }
    let (mut language, mut bases) = (Vec::new(), Vec::new());
    for model in &config.language_models {
        let (entry, base, worker) = guard(&model.path, || loader.load_language(model))?;
        language.push(entry);
        bases.push((model.name.clone(), base));
        workers.push(worker);
    }
    let limits = AdapterLimits {
        count_max: config.adapters_max as usize,
        rank_max: config.adapter_rank_max as usize,
        bytes_max: config.adapter_mib * MIB,
    };
    Ok(Loaded {
        catalog: Catalog::new(embedding, language),
        adapters: AdapterRegistry::new(bases, limits),
        workers,
    })
}

/// Runs `load`; the readers of model files panic on some broken files instead of failing.
fn guard<T>(path: &Path, load: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(load))
        .unwrap_or_else(|_| Err(Error::model_file(path, "the file is malformed")))
}

impl Loader<'_> {
    fn load_embedding(
        &self,
        model: &EmbeddingModelConfig,
    ) -> Result<(EmbeddingEntry, Worker), Error> {
        let start = Instant::now();
        let weights = BertEmbedder::weights_path(&model.path);
        let fingerprint = fingerprint(std::slice::from_ref(&weights), model.sha256.as_deref())?;
        let tokenizer = TextTokenizer::from_directory(&model.path)?;
        // Its vectors must not mix with those of the other precision in one embedding set.
        let (precision, fingerprint) = match model.quantization {
            Quantization::None => (BertPrecision::Bf16, fingerprint),
            Quantization::Int8 => (BertPrecision::Int8, fingerprint.rounded_to("int8")),
        };
        let mut embedder = BertEmbedder::load(&model.path, precision)?;
        if tokenizer.vocabulary_size() > embedder.vocabulary_size() {
            let reason = "the tokenizer knows more tokens than the model";
            return Err(Error::model_file(&model.path, reason));
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

        let metrics = self.metrics.embedding(&card.name).requests().clone();
        let queue = Arc::new(JobQueue::new(self.counters.clone(), metrics.clone()));
        let worker = Worker::start(&format!("embed {}", card.name), queue.clone(), {
            let queue = queue.clone();
            move |job| crate::scheduler::EmbeddingJob::run(job, &mut embedder, &queue, &metrics)
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
        &self,
        model: &LanguageModelConfig,
    ) -> Result<(LanguageEntry, AdapterBase, Worker), Error> {
        let start = Instant::now();
        let config = self.config;
        let LanguageParts {
            mut llama,
            tokenizer,
            fingerprint,
        } = read_language(model, config)?;
        let kv_blocks = (config.kv_mib * MIB) as usize / llama.kv_block_bytes();
        // A sequence can be no longer than the memory for its keys and values.
        let tokens_max = llama.tokens_max().min(kv_blocks * KV_BLOCK_TOKENS);
        if tokens_max < TOKENS_MIN {
            return Err(Error::KvTooSmall {
                kv_mib: config.kv_mib,
            });
        }
        llama.reserve_kv(kv_blocks)?;
        let card = ModelCard {
            name: model.name.clone(),
            tokens_max,
            sha256: fingerprint.sha256,
            weight_bytes: fingerprint.bytes,
        };
        let (base, vocabulary) = (llama.adapter_base(), llama.vocabulary());
        if tokenizer.vocabulary_size() > vocabulary {
            let reason = "the tokenizer knows more tokens than the model";
            return Err(Error::model_file(&model.path, reason));
        }
        let tokenizer = Arc::new(tokenizer);
        let constraints = ConstraintCompiler::new(&tokenizer, vocabulary)?;
        let metrics = self.metrics.language(&card.name);
        let requests = metrics.requests().clone();
        let queue = Arc::new(JobQueue::new(self.counters.clone(), requests));
        let engine = Engine::new(EngineParts {
            model: Box::new(llama),
            card: card.clone(),
            kv_blocks,
            queue: queue.clone(),
            limits: self.engine_limits(model.device),
            metrics,
        });
        let worker =
            Worker::start_engine(&format!("generate {}", card.name), engine, queue.clone())?;
        log_loaded(&card, start);
        let entry = LanguageEntry {
            card,
            tokenizer,
            constraints: Arc::new(constraints),
            queue,
        };
        Ok((entry, base, worker))
    }

    fn engine_limits(&self, device: DeviceConfig) -> EngineLimits {
        EngineLimits {
            sequences_max: self.config.sequences_max as usize,
            batch_tokens_max: self.config.batch_tokens_max as usize,
            prompt_chunk_tokens: self.config.prompt_chunk_tokens as usize,
            draft_tokens_max: match device {
                DeviceConfig::Cpu => self.config.draft_tokens_max as usize,
                // There a row may be rounded otherwise beside others, so drafts could change a text.
                DeviceConfig::Cuda(_) => 0,
            },
        }
    }
}

/// A GGUF file, or a Hugging Face directory.
fn read_language(model: &LanguageModelConfig, config: &Config) -> Result<LanguageParts, Error> {
    let precision = match config.kv_cache_dtype {
        KvCacheDtype::Float16 => Precision::Fast,
        KvCacheDtype::Int8 => Precision::Compact,
    };
    let compute = match model.device {
        DeviceConfig::Cpu => Compute::Host(precision),
        DeviceConfig::Cuda(number) => Compute::Candle(Device::new_cuda(number)?),
    };
    let options = LlamaOptions {
        tokens_max: config.context_tokens_of(model) as usize,
        compute,
    };
    let expected = model.sha256.as_deref();
    if model.path.is_dir() {
        let files = SafetensorsModel::open(&model.path)?;
        let paths: Vec<_> = files
            .files()
            .iter()
            .map(|file| file.path().to_owned())
            .collect();
        return Ok(LanguageParts {
            fingerprint: fingerprint(&paths, expected)?,
            tokenizer: ChatTokenizer::from_directory(&model.path)?,
            llama: Llama::from_safetensors(&files, &options)?,
        });
    }
    let fingerprint = fingerprint(std::slice::from_ref(&model.path), expected)?;
    let file = GgufFile::open(&model.path)?;
    Ok(LanguageParts {
        fingerprint,
        tokenizer: ChatTokenizer::from_gguf(&file)?,
        llama: Llama::from_gguf(&file, &options)?,
    })
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
