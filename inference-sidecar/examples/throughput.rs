//! Prints the speed of the models, each the median of some runs after a warm-up, one figure a line.
//!
//! `throughput RUNS MODEL.gguf [BERT_DIR]`, on an idle machine. `reference/peer_speed.py` runs it
//! alternately with llama.cpp.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    BatchPlan, BertEmbedder, BlockId, EmbeddingModel, KV_BLOCK_TOKENS, LanguageModel, Llama,
    LlamaOptions, LogitsOf, SequencePlan,
};
use inference_sidecar::text::TextTokenizer;

/// Two calls of the sample deal room.
const CALLS: &str = include_str!("../reference/perplexity.txt");
/// Texts that are embedded together.
const TEXTS: usize = 32;
const PROMPT_TOKENS: usize = 512;
const DECODE_TOKENS: usize = 64;
/// Sequences that decode together, and how many tokens stand before in each.
const DECODES: [(usize, usize); 4] = [(1, 0), (8, 0), (16, 0), (1, 2048)];
const BLOCKS_EACH: usize = (2048 + DECODE_TOKENS).div_ceil(KV_BLOCK_TOKENS);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let (runs, language, embedding) = match arguments.as_slice() {
        [_, runs, language] => (runs, language, None),
        [_, runs, language, embedding] => (runs, language, Some(embedding)),
        _ => anyhow::bail!("usage: throughput RUNS MODEL.gguf [BERT_DIR]"),
    };
    let runs: usize = runs.parse().context("RUNS is no number")?;
    let start = Instant::now();
    let file = GgufFile::open(Path::new(language))?;
    let mut llama = Llama::from_gguf(&file, &LlamaOptions::cpu())?;
    drop(file);
    println!("load: {:.2} s", start.elapsed().as_secs_f64());
    measure_language(&mut llama, runs)?;
    match embedding {
        Some(directory) => measure_embedding(Path::new(directory), runs),
        None => Ok(()),
    }
}

fn measure_language(llama: &mut Llama, runs: usize) -> anyhow::Result<()> {
    let sequences = DECODES.iter().map(|&(count, _)| count).max().unwrap_or(1);
    llama.reserve_kv(sequences * BLOCKS_EACH)?;
    let blocks: Vec<BlockId> = (0u32..)
        .take(sequences * BLOCKS_EACH)
        .map(BlockId)
        .collect();
    let blocks: Vec<&[BlockId]> = blocks.chunks(BLOCKS_EACH).collect();
    let tokens: Vec<u32> = (0..2048).map(|i| 1000 + i * 7).collect();
    let prompt = &tokens[..PROMPT_TOKENS];
    let speed = median(runs, PROMPT_TOKENS, || {
        step(llama, vec![plan(prompt, 0, blocks[0])])
    })?;
    println!("prefill {PROMPT_TOKENS}: {speed:.1} tokens/s");
    for (count, depth) in DECODES {
        if depth > 0 {
            for blocks in &blocks[..count] {
                step(llama, vec![plan(&tokens[..depth], 0, blocks)])?;
            }
        }
        let speed = median(runs, count * DECODE_TOKENS, || {
            continue_together(llama, &tokens, depth, &blocks[..count])
        })?;
        println!("decode {count} at {depth}: {speed:.1} tokens/s");
    }
    Ok(())
}

/// Reads token after token in all sequences at once.
fn continue_together(
    llama: &mut Llama,
    tokens: &[u32],
    depth: usize,
    blocks: &[&[BlockId]],
) -> Result<(), Error> {
    for (index, token) in tokens.chunks(1).take(DECODE_TOKENS).enumerate() {
        let sequences = blocks
            .iter()
            .map(|blocks| plan(token, depth + index, blocks));
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

fn measure_embedding(directory: &Path, runs: usize) -> anyhow::Result<()> {
    let mut model = BertEmbedder::load(directory)?;
    for (tokens, texts) in [(16, 1), (16, 64), (128, 32), (256, 16)] {
        let sequence: Vec<u32> = (0..tokens).map(|i| 2000 + i).collect();
        let batch = vec![sequence.as_slice(); texts];
        let speed = median(runs, texts, || model.embed(&batch).map(drop))?;
        println!("embed {texts} of {tokens} tokens: {speed:.1} texts/s");
    }
    let sequences = call_sequences(directory, model.tokens_max())?;
    let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let speed = median(runs, batch.len(), || {
        let mut batches = batch.chunks(TEXTS);
        batches.try_for_each(|batch| model.embed(batch).map(drop))
    })?;
    let count = batch.len();
    println!("embed {count} parts of calls, {tokens} tokens, {TEXTS} at once: {speed:.1} texts/s");
    Ok(())
}

/// Parts of calls, of one to eight turns, in the order of the calls.
fn call_sequences(directory: &Path, tokens_max: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let tokenizer = TextTokenizer::from_directory(directory)?;
    let turns: Vec<&str> = CALLS.lines().collect();
    let sequence = |first: usize| -> anyhow::Result<Vec<u32>> {
        let last = (first + 1 + first * 5 % 8).min(turns.len());
        let mut tokens = tokenizer.encode(&turns[first..last].join("\n"))?;
        tokens.truncate(tokens_max - tokenizer.special_token_count());
        Ok(tokenizer.with_special_tokens(&tokens))
    };
    (0..turns.len()).map(sequence).collect()
}

/// Things per second, of which each run makes `count`. The first run is the warm-up.
fn median(
    runs: usize,
    count: usize,
    mut work: impl FnMut() -> Result<(), Error>,
) -> Result<f64, Error> {
    work()?;
    let mut rates = Vec::with_capacity(runs);
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        work()?;
        rates.push(count as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}
