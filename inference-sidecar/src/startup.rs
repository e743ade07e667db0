//! Loads the models one after another; each must answer a warm-up call before its worker starts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;

use crate::adapters::{AdapterLimits, AdapterRegistry};
use crate::catalog::{Catalog, EmbeddingEntry, LanguageEntry, ModelCard, RerankingEntry};
use crate::config::{
    BertModelConfig, Config, DeviceConfig, KvCacheDtype, LanguageModelConfig, Quantization,
};
use crate::error::Error;
use crate::gguf::GgufFile;
use crate::metrics::Metrics;
use crate::models::{
    AdapterBase, BertEmbedder, BertPrecision, BertReranker, Compute, EmbeddingModel, Fingerprint,
    KV_BLOCK_TOKENS, LanguageModel, Llama, LlamaOptions, Precision, fingerprint, weights_path,
};
use crate::safetensors_model::SafetensorsModel;
use crate::scheduler::{
    ConstraintCompiler, Counters, EmbeddingJob, Engine, EngineLimits, EngineParts, JobQueue, Worker,
};
use crate::text::{ChatTokenizer, TextTokenizer};

const MIB: u64 = 1 << 20;
/// A server that cannot hold this many tokens of one sequence is no use.
const TOKENS_MIN: usize = 64;
/// What a BERT model reads first.
const WARM_UP: &str = "warm up";

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

/// A model of the BERT family, whose worker runs.
struct BertParts {
    card: ModelCard,
    dimensions: usize,
    tokenizer: Arc<TextTokenizer>,
    queue: Arc<JobQueue<EmbeddingJob>>,
    worker: Worker,
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
    let mut reranking = Vec::new();
    for model in &config.reranking_models {
        let (entry, worker) = guard(&model.path, || loader.load_reranking(model))?;
        reranking.push(entry);
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
        catalog: Catalog {
            embedding,
            reranking,
            language,
        },
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
    fn load_embedding(&self, config: &BertModelConfig) -> Result<(EmbeddingEntry, Worker), Error> {
        let read = || {
            let tokenizer = TextTokenizer::from_directory(&config.path)?;
            let model = BertEmbedder::load(&config.path, precision(config))?;
            let warm_up = tokenizer.with_special_tokens(&tokenizer.encode(WARM_UP)?);
            Ok((tokenizer, model, warm_up))
        };
        let parts = self.load_bert(config, read)?;
        let entry = EmbeddingEntry {
            card: parts.card,
            dimensions: parts.dimensions,
            tokenizer: parts.tokenizer,
            queue: parts.queue,
        };
        Ok((entry, parts.worker))
    }

    fn load_reranking(&self, config: &BertModelConfig) -> Result<(RerankingEntry, Worker), Error> {
        let read = || {
            let tokenizer = TextTokenizer::for_pairs(&config.path)?;
            let separator = tokenizer.separator().ok_or_else(|| {
                Error::model_file(&config.path, "the tokenizer does not say where a text ends")
            })?;
            let model = BertReranker::load(&config.path, precision(config), separator)?;
            let text = tokenizer.encode(WARM_UP)?;
            let warm_up = tokenizer.with_special_tokens_of_pair(&text, &text);
            Ok((tokenizer, model, warm_up))
        };
        let parts = self.load_bert(config, read)?;
        let entry = RerankingEntry {
            card: parts.card,
            tokenizer: parts.tokenizer,
            queue: parts.queue,
        };
        Ok((entry, parts.worker))
    }

    /// Checks the weights, lets `read` read the model and what it is to read first, and puts a worker before it.
    fn load_bert<M: EmbeddingModel + 'static>(
        &self,
        config: &BertModelConfig,
        read: impl FnOnce() -> Result<(TextTokenizer, M, Vec<u32>), Error>,
    ) -> Result<BertParts, Error> {
        let start = Instant::now();
        let weights = weights_path(&config.path);
        let fingerprint = fingerprint(std::slice::from_ref(&weights), config.sha256.as_deref())?;
        // Its vectors must not mix with those of the other precision in one embedding set.
        let fingerprint = match config.quantization {
            Quantization::None => fingerprint,
            Quantization::Int8 => fingerprint.rounded_to("int8"),
        };
        let (tokenizer, model, warm_up) = read()?;
        if tokenizer.vocabulary_size() > model.vocabulary_size() {
            let reason = "the tokenizer knows more tokens than the model";
            return Err(Error::model_file(&config.path, reason));
        }
        let card = ModelCard {
            name: config.name.clone(),
            tokens_max: model.tokens_max(),
            sha256: fingerprint.sha256,
            weight_bytes: fingerprint.bytes,
        };
        if warm_up.len() > card.tokens_max {
            let reason = "the model takes too few tokens at once";
            return Err(Error::model_file(&config.path, reason));
        }
        model.embed(&[&warm_up], &mut || ())?;

        let dimensions = model.dimensions();
        let metrics = self.metrics.embedding(&card.name).requests().clone();
        let queue = Arc::new(JobQueue::new(self.counters.clone(), metrics.clone()));
        let worker = Worker::start(&format!("embed {}", card.name), queue.clone(), {
            let queue = queue.clone();
            move |job: &mut EmbeddingJob| job.run(&model, &queue, &metrics)
        })?;
        log_loaded(&card, start);
        Ok(BertParts {
            card,
            dimensions,
            tokenizer: Arc::new(tokenizer),
            queue,
            worker,
        })
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

fn precision(model: &BertModelConfig) -> BertPrecision {
    match model.quantization {
        Quantization::None => BertPrecision::Bf16,
        Quantization::Int8 => BertPrecision::Int8,
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
