//! What surrounds the model: choosing tokens, tokenising and cutting texts, and the scheduler over a model that
//! computes nothing.
//!
//! `cargo bench -p inference-sidecar`. Tokenisers are those of the demo's models; without them (`make build` fetches
//! them) the benches that need one are left out, and say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inference_sidecar::catalog::ModelCard;
use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::metrics::Metrics;
use inference_sidecar::models::{BatchPlan, LanguageModel};
use inference_sidecar::scheduler::{
    Call, Counters, Engine, EngineLimits, EngineParts, GenerationEvent, GenerationJob,
    GenerationPlan, JobQueue, RequestId, Sampler,
};
use inference_sidecar::text::{ChatTokenizer, TextTokenizer, chunk};
use proto::model::{Caller, Priority, Sampling};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Two calls of the sample deal room.
const CALLS: &str = include_str!("../reference/perplexity.txt");
/// SmolLM2's.
const VOCABULARY: usize = 49_152;
const PROMPT_TOKENS: u32 = 64;
const TEXT_TOKENS: usize = 64;

fn model(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.salesai/models")
        .join(name);
    if !path.is_dir() {
        println!("left out: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn chat_tokenizer() -> Option<ChatTokenizer> {
    let folder = model("smollm2-135m-instruct")?;
    let mut files = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let path = files.find(|path| path.extension().is_some_and(|ending| ending == "gguf"))?;
    let file = GgufFile::open(&path).expect("it is a GGUF file");
    Some(ChatTokenizer::from_gguf(&file).expect("it has a tokenizer"))
}

fn sampling(criterion: &mut Criterion) {
    let penalised = Sampling {
        repetition_penalty: 1.1,
        ..Sampling::nucleus(0.7, 0.9, 1)
    };
    let history: Vec<u32> = (0..1000).map(|i| i * 31 % VOCABULARY as u32).collect();
    let mut group = criterion.benchmark_group("next token");
    for vocabulary in [VOCABULARY, 128_256] {
        let mut random = StdRng::seed_from_u64(1);
        let scores: Vec<f32> = (0..vocabulary)
            .map(|_| random.random_range(-8.0..8.0))
            .collect();
        group.throughput(Throughput::Elements(vocabulary as u64));
        for (name, sampling, logprobs) in [
            ("likeliest", Sampling::GREEDY, 0),
            ("likeliest with log-probabilities", Sampling::GREEDY, 5),
            ("temperature and nucleus", Sampling::nucleus(0.7, 0.9, 1), 0),
            ("with repetition penalty", penalised, 0),
        ] {
            let mut sampler = Sampler::new(sampling, logprobs);
            group.bench_function(BenchmarkId::new(name, vocabulary), |bencher| {
                bencher.iter_batched_ref(
                    || scores.clone(),
                    |scores| {
                        sampler
                            .choose(scores, &history, None)
                            .expect("scores are numbers")
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

fn tokenising(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    group.throughput(Throughput::Bytes(CALLS.len() as u64));
    if let Some(folder) = model("all-MiniLM-L6-v2") {
        let tokenizer = TextTokenizer::from_directory(&folder).expect("it has a tokenizer");
        group.bench_function("tokens for MiniLM", |bencher| {
            bencher.iter(|| tokenizer.encode(CALLS));
        });
        group.bench_function("chunks of 256 tokens", |bencher| {
            bencher.iter(|| chunk(&tokenizer, CALLS, 256, 32));
        });
    }
    if let Some(tokenizer) = chat_tokenizer() {
        group.bench_function("tokens for SmolLM2", |bencher| {
            bencher.iter(|| tokenizer.text().encode(CALLS));
        });
    }
    group.finish();
}

/// Gives every token the same scores.
struct NoModel;

impl LanguageModel for NoModel {
    fn tokens_max(&self) -> usize {
        8192
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn kv_block_bytes(&self) -> usize {
        1
    }

    fn reserve_kv(&mut self, _blocks: usize) -> Result<(), Error> {
        Ok(())
    }

    fn forward(&mut self, plan: &BatchPlan<'_>, scores: &mut Vec<f32>) -> Result<(), Error> {
        // What is there is the same.
        scores.resize(plan.wanted_rows().len() * VOCABULARY, 0.0);
        // Some common word.
        scores
            .iter_mut()
            .skip(1000)
            .step_by(VOCABULARY)
            .for_each(|score| *score = 1.0);
        Ok(())
    }
}

fn batching(criterion: &mut Criterion) {
    let Some(tokenizer) = chat_tokenizer() else {
        return;
    };
    let tokenizer = Arc::new(tokenizer);
    let mut group = criterion.benchmark_group("scheduler without a model");
    for sequences in [1, 8, 64] {
        group.throughput(Throughput::Elements((sequences * TEXT_TOKENS) as u64));
        group.bench_function(
            BenchmarkId::new("tokens of sequences", sequences),
            |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| run(sequences, &tokenizer)).sum());
            },
        );
    }
    group.finish();
}

/// The time from when all sequences wait until all have ended.
fn run(sequences: usize, tokenizer: &Arc<ChatTokenizer>) -> Duration {
    let metrics = Metrics::new().language("none");
    let counters = Arc::new(Counters::new(256));
    let queue = Arc::new(JobQueue::new(counters, metrics.requests().clone()));
    let jobs = (0..sequences).map(|index| {
        let plan = GenerationPlan {
            prompt: (0..PROMPT_TOKENS)
                .map(|i| 1000 + i * 7 + index as u32)
                .collect(),
            tokens_max: TEXT_TOKENS,
            sampler: Sampler::new(Sampling::GREEDY, 0),
            sends_logprobs: false,
            constraint: None,
            stop: Vec::new(),
            tokenizer: tokenizer.clone(),
            adapter: None,
            caller: Caller {
                name: index.to_string(),
                cache_salt: Vec::new(),
            },
        };
        let call = Call::new(RequestId::new(None), "none", Priority::Interactive, None);
        GenerationJob::new(call, plan)
    });
    let (jobs, receivers): (Vec<_>, Vec<_>) = jobs.unzip();
    for job in jobs {
        queue.push(job).expect("there is room");
    }
    let engine = Engine::new(EngineParts {
        model: Box::new(NoModel),
        card: ModelCard {
            name: "none".into(),
            tokens_max: 8192,
            sha256: String::new(),
            weight_bytes: 0,
        },
        kv_blocks: 2048,
        queue: queue.clone(),
        limits: EngineLimits {
            sequences_max: 64,
            batch_tokens_max: 256,
            prompt_chunk_tokens: 128,
            draft_tokens_max: 0,
        },
        metrics,
    });
    let start = Instant::now();
    let thread = std::thread::spawn(move || engine.run());
    for mut receiver in receivers {
        while let Some(event) = receiver.blocking_recv() {
            if let GenerationEvent::Finished { .. } = event.expect("nothing fails") {
                break;
            }
        }
    }
    let elapsed = start.elapsed();
    queue.close();
    thread.join().expect("the engine ends");
    elapsed
}

criterion_group!(benches, sampling, tokenising, batching);
criterion_main!(benches);
