//! Prints the speed of the models, each the median of some runs after a warm-up, one figure a line.
//!
//! `throughput RUNS MODEL.gguf [BERT_DIR | --decode-alone]`, on an idle machine; with `--decode-alone` one stream is
//! all that is measured. `make bench-peers` runs it alternately with other engines.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    BatchPlan, BertEmbedder, BertPrecision, BlockId, Compute, EmbeddingModel, KV_BLOCK_TOKENS,
    LanguageModel, Llama, LlamaOptions, LogitsOf, Precision, SequencePlan, UnreadMatrix,
};
use inference_sidecar::text::TextTokenizer;
use kernels::{Level, Pool, int8_rate, read_bandwidth};

/// Two calls of the sample deal room.
const CALLS: &str = include_str!("../reference/perplexity.txt");
/// Texts that are embedded together.
const TEXTS: usize = 32;
const PROMPT_TOKENS: usize = 512;
const DECODE_TOKENS: usize = 64;
/// Prompts that are compared with what the processor can multiply.
const PREFILL_SHARES: usize = 5;
/// Sequences that decode together, and how many tokens stand before in each.
const DECODES: [(usize, usize); 4] = [(1, 0), (8, 0), (16, 0), (1, 2048)];
/// Those that are measured with keys and values in 8 bits as well.
const COMPACT_DECODES: [(usize, usize); 2] = [(1, 0), (1, 2048)];
const BLOCKS_EACH: usize = (2048 + DECODE_TOKENS).div_ceil(KV_BLOCK_TOKENS);

struct Model {
    llama: Llama,
    scores: Vec<f32>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let (runs, language, more) = match arguments.as_slice() {
        [_, runs, language] => (runs, language, None),
        [_, runs, language, more] => (runs, language, Some(more.as_str())),
        _ => anyhow::bail!("usage: throughput RUNS MODEL.gguf [BERT_DIR | --decode-alone]"),
    };
    let runs: usize = runs.parse().context("RUNS is no number")?;
    let start = Instant::now();
    let file = GgufFile::open(Path::new(language))?;
    let mut model = Model {
        llama: Llama::from_gguf(&file, &LlamaOptions::cpu())?,
        scores: Vec::new(),
    };
    println!("load: {:.2} s", start.elapsed().as_secs_f64());
    println!("peak until loaded: {} MiB", peak_mib()?);
    let bytes = bytes_read(&file, std::fs::metadata(language)?.len());
    if more == Some("--decode-alone") {
        measure_decodes(&mut model, runs, &DECODES[..1], "")?;
        return measure_share(&mut model, bytes, 3);
    }
    measure_prefill(&mut model, runs, operations(&file))?;
    measure_decodes(&mut model, runs, &DECODES, "")?;
    measure_share(&mut model, bytes, 9)?;
    let compact = LlamaOptions {
        compute: Compute::Host(Precision::Compact),
        ..LlamaOptions::cpu()
    };
    model.llama = Llama::from_gguf(&file, &compact)?;
    drop(file);
    measure_decodes(&mut model, runs, &COMPACT_DECODES, ", int8 keys and values")?;
    match more {
        Some(directory) => measure_embedding(Path::new(directory), runs),
        None => Ok(()),
    }
}

/// The most memory that this process has had.
fn peak_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: u64 = kib.context("Linux tells no peak")?.trim().parse()?;
    Ok(kib / 1024)
}

/// Also how much of what the processor multiplies at 8 bits is reached, when all of a prompt's multiplications and
/// additions, those of attention too, are counted as such. That is measured beside each run, as memory is below.
fn measure_prefill(model: &mut Model, runs: usize, operations: f64) -> anyhow::Result<()> {
    let blocks = reserve(model, 1)?;
    let tokens = prompt();
    let mut read = || step(model, vec![plan(&tokens[..PROMPT_TOKENS], 0, &blocks)]);
    let speed = median(runs, PROMPT_TOKENS, &mut read)?;
    println!("prefill {PROMPT_TOKENS}: {speed:.1} tokens/s");
    let (mut shares, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..PREFILL_SHARES {
        let rate = int8_rate(Pool::global(), Level::best(), 1);
        let start = Instant::now();
        read()?;
        shares.push(100.0 * operations / start.elapsed().as_secs_f64() / rate);
        rates.push(rate / 1e9);
    }
    println!("multiplied at 8 bits: {:.0} GOP/s", middle(rates));
    println!("share of that by prefill: {:.1} %", middle(shares));
    Ok(())
}

/// Multiplications and additions that a prompt takes: each weight of the layers once for each token, those of the output
/// for the last one; of attention each token with all before it, twice.
fn operations(file: &GgufFile) -> f64 {
    let tokens = PROMPT_TOKENS as f64;
    let output = match file.has_tensor("output.weight") {
        true => "output.weight",
        false => "token_embd.weight",
    };
    let per_tensor = |(name, shape): (&str, [usize; 4])| {
        let weights = shape.iter().product::<usize>() as f64;
        let is_matrix = name.starts_with("blk.") && shape[1] > 1;
        match name {
            _ if name == output => 2.0 * weights,
            _ if !is_matrix => 0.0,
            _ if name.ends_with("attn_q.weight") => {
                2.0 * tokens * weights + 2.0 * tokens * tokens * shape[1] as f64
            }
            _ => 2.0 * tokens * weights,
        }
    };
    file.tensors().map(per_tensor).sum()
}

fn measure_decodes(
    model: &mut Model,
    runs: usize,
    decodes: &[(usize, usize)],
    note: &str,
) -> anyhow::Result<()> {
    let sequences = decodes.iter().map(|&(count, _)| count).max().unwrap_or(1);
    let blocks = reserve(model, sequences)?;
    let blocks: Vec<&[BlockId]> = blocks.chunks(BLOCKS_EACH).collect();
    let tokens = prompt();
    for &(count, depth) in decodes {
        if depth > 0 {
            for blocks in &blocks[..count] {
                step(model, vec![plan(&tokens[..depth], 0, blocks)])?;
            }
        }
        let speed = median(runs, count * DECODE_TOKENS, || {
            continue_together(model, &tokens, depth, &blocks[..count])
        })?;
        println!("decode {count} at {depth}{note}: {speed:.1} tokens/s");
    }
    Ok(())
}

/// Bytes of the file that each token reads: vectors of the vocabulary are not among them where the output has a
/// matrix of its own.
fn bytes_read(file: &GgufFile, all: u64) -> u64 {
    let embedding = file
        .tensors()
        .find(|(name, _)| *name == "token_embd.weight");
    let shape = match embedding {
        Some((_, shape)) if file.has_tensor("output.weight") => shape,
        _ => return all,
    };
    let vectors = file.unread_matrix("token_embd.weight", shape[1], shape[0]);
    let bytes = vectors.ok().and_then(|vectors| {
        let UnreadMatrix {
            format,
            rows,
            columns,
            ..
        } = vectors;
        format.matrix_bytes(rows, columns)
    });
    all - bytes.unwrap_or(0) as u64
}

/// How much of what memory allows one stream reaches, when each token reads all weights once. Memory is measured
/// beside each run, since on a virtual machine its speed changes from second to second.
fn measure_share(model: &mut Model, bytes: u64, runs: usize) -> anyhow::Result<()> {
    let blocks = reserve(model, 1)?;
    let tokens = prompt();
    let (mut shares, mut bandwidths) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let bandwidth = read_bandwidth(Pool::global(), Level::best(), 1)?;
        let start = Instant::now();
        continue_together(model, &tokens, 0, &[&blocks])?;
        let rate = DECODE_TOKENS as f64 / start.elapsed().as_secs_f64();
        shares.push(100.0 * rate * bytes as f64 / bandwidth);
        bandwidths.push(bandwidth / 1e9);
    }
    println!("read from memory: {:.1} GB/s", middle(bandwidths));
    println!("share of that: {:.1} %", middle(shares));
    Ok(())
}

/// The blocks of so many sequences.
fn reserve(model: &mut Model, sequences: usize) -> anyhow::Result<Vec<BlockId>> {
    model.llama.reserve_kv(sequences * BLOCKS_EACH)?;
    Ok((0u32..)
        .take(sequences * BLOCKS_EACH)
        .map(BlockId)
        .collect())
}

fn prompt() -> Vec<u32> {
    (0..2048).map(|i| 1000 + i * 7).collect()
}

/// Reads token after token in all sequences at once.
fn continue_together(
    model: &mut Model,
    tokens: &[u32],
    depth: usize,
    blocks: &[&[BlockId]],
) -> Result<(), Error> {
    for (index, token) in tokens.chunks(1).take(DECODE_TOKENS).enumerate() {
        let sequences = blocks
            .iter()
            .map(|blocks| plan(token, depth + index, blocks));
        step(model, sequences.collect())?;
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

fn step(model: &mut Model, sequences: Vec<SequencePlan<'_>>) -> Result<(), Error> {
    let plan = BatchPlan {
        sequences,
        is_abandoned: &|| false,
    };
    model.llama.forward(&plan, &mut model.scores)
}

fn measure_embedding(directory: &Path, runs: usize) -> anyhow::Result<()> {
    let model = BertEmbedder::load(directory, BertPrecision::Bf16)?;
    for (tokens, texts) in [(16, 1), (16, 64), (128, 32), (256, 16)] {
        let sequence: Vec<u32> = (0..tokens).map(|i| 2000 + i).collect();
        let batch = vec![sequence.as_slice(); texts];
        let speed = median(runs, texts, || model.embed(&batch, &mut || ()).map(drop))?;
        println!("embed {texts} of {tokens} tokens: {speed:.1} texts/s");
    }
    let sequences = call_sequences(directory, model.tokens_max())?;
    let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let speed = median(runs, batch.len(), || {
        let mut batches = batch.chunks(TEXTS);
        batches.try_for_each(|batch| model.embed(batch, &mut || ()).map(drop))
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
    Ok(middle(rates))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
