//! Prints the speed of the models: median of five runs after a warm-up.
//!
//! `throughput MODEL.gguf BERT_DIR`, on an idle machine.

use std::path::Path;
use std::time::Instant;

use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    BatchPlan, BertEmbedder, BlockId, EmbeddingModel, KV_BLOCK_TOKENS, LanguageModel, Llama,
    LlamaOptions, LogitsOf, SequencePlan,
};

const RUNS: usize = 5;
const PROMPT_TOKENS: usize = 512;
const STEP_TOKENS: usize = 128;
const DECODE_TOKENS: usize = 64;
/// Sequences that decode together.
const BATCHES: [usize; 3] = [1, 8, 32];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, language, embedding] = arguments.as_slice() else {
        anyhow::bail!("usage: throughput MODEL.gguf BERT_DIR");
    };
    let start = Instant::now();
    let file = GgufFile::open(Path::new(language))?;
    let mut llama = Llama::from_gguf(&file, &LlamaOptions::cpu())?;
    println!("load {:.2} s", start.elapsed().as_secs_f64());
    measure_language(&mut llama)?;
    measure_embedding(&BertEmbedder::load(Path::new(embedding))?)
}

fn measure_language(llama: &mut Llama) -> anyhow::Result<()> {
    let sequences = BATCHES.iter().copied().max().unwrap_or(1);
    let blocks_each = (PROMPT_TOKENS + DECODE_TOKENS).div_ceil(KV_BLOCK_TOKENS);
    llama.reserve_kv(sequences * blocks_each)?;
    let blocks: Vec<BlockId> = (0u32..)
        .take(sequences * blocks_each)
        .map(BlockId)
        .collect();
    let blocks: Vec<&[BlockId]> = blocks.chunks(blocks_each).collect();
    let prompt: Vec<u32> = (0..PROMPT_TOKENS as u32).map(|i| 1000 + i * 7).collect();

    let mut prefill = Vec::new();
    for _ in 0..=RUNS {
        prefill.push(rate(PROMPT_TOKENS, || read(llama, &prompt, blocks[0]))?);
    }
    println!(
        "prefill {PROMPT_TOKENS}: {:.1} tokens/s",
        median(&mut prefill)
    );
    for blocks in &blocks[1..] {
        read(llama, &prompt, blocks)?;
    }
    for batch in BATCHES {
        let mut decode = Vec::new();
        for _ in 0..=RUNS {
            let tokens = batch * DECODE_TOKENS;
            decode.push(rate(tokens, || {
                continue_together(llama, &prompt, &blocks[..batch])
            })?);
        }
        println!(
            "decode after {PROMPT_TOKENS}, {batch} together: {:.1} tokens/s",
            median(&mut decode)
        );
    }
    Ok(())
}

/// Reads a prompt in steps.
fn read(llama: &mut Llama, prompt: &[u32], blocks: &[BlockId]) -> Result<(), Error> {
    for (index, tokens) in prompt.chunks(STEP_TOKENS).enumerate() {
        step(llama, vec![plan(tokens, index * STEP_TOKENS, blocks)])?;
    }
    Ok(())
}

/// Reads token after token in all sequences at once.
fn continue_together(
    llama: &mut Llama,
    tokens: &[u32],
    blocks: &[&[BlockId]],
) -> Result<(), Error> {
    for (index, token) in tokens.chunks(1).take(DECODE_TOKENS).enumerate() {
        let sequences = blocks
            .iter()
            .map(|blocks| plan(token, PROMPT_TOKENS + index, blocks));
        step(llama, sequences.collect())?;
    }
    Ok(())
}

fn plan<'a>(tokens: &'a [u32], position: usize, blocks: &'a [BlockId]) -> SequencePlan<'a> {
    let end = position + tokens.len();
    SequencePlan {
        tokens,
        position,
        blocks: &blocks[..end.div_ceil(KV_BLOCK_TOKENS)],
        adapter: None,
        logits: LogitsOf::LastToken,
    }
}

fn step(llama: &mut Llama, sequences: Vec<SequencePlan<'_>>) -> Result<(), Error> {
    let plan = BatchPlan {
        sequences,
        is_abandoned: &|| false,
    };
    llama.forward(&plan).map(drop)
}

fn measure_embedding(model: &BertEmbedder) -> anyhow::Result<()> {
    for (tokens, texts) in [(16, 64), (128, 32), (256, 16)] {
        let sequence: Vec<u32> = (0..tokens).map(|i| 2000 + i).collect();
        let batch = vec![sequence.as_slice(); texts];
        let mut rates = Vec::new();
        for _ in 0..=RUNS {
            rates.push(rate(texts, || model.embed(&batch).map(drop))?);
        }
        println!(
            "embeddings of {tokens} tokens, batch {texts}: {:.1} texts/s",
            median(&mut rates)
        );
    }
    Ok(())
}

fn rate(count: usize, work: impl FnOnce() -> Result<(), Error>) -> Result<f64, Error> {
    let start = Instant::now();
    work()?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// The first run is the warm-up.
fn median(rates: &mut [f64]) -> f64 {
    let measured = &mut rates[1..];
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}
