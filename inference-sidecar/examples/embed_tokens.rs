//! Embeds given token sequences and prints the speed: for comparisons with other engines on the same input.
//!
//! `embed_tokens BERT_DIR TOKENS.json OUT.f32 AT_ONCE [int8|candle]`: TOKENS.json is a list of lists of token ids,
//! which come `AT_ONCE` together in their order, as requests do; the vectors are written one behind the other. With
//! `int8` linear layers are in 8 bits; with `candle` it computes by candle's own model in padded batches.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use inference_sidecar::models::{BertEmbedder, BertPrecision, EmbeddingModel};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, tokens, out, at_once, mode @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: embed_tokens BERT_DIR TOKENS.json OUT.f32 AT_ONCE [int8|candle]");
    };
    let sequences: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(tokens)?)?;
    let at_once: usize = at_once.parse().context("AT_ONCE is no number")?;
    let directory = Path::new(directory);
    let vectors = match mode {
        [] => embed(directory, BertPrecision::Bf16, &sequences, at_once)?,
        [mode] if mode == "int8" => embed(directory, BertPrecision::Int8, &sequences, at_once)?,
        [mode] if mode == "candle" => embed_by_candle(directory, &sequences, at_once)?,
        _ => anyhow::bail!("the modes are int8 and candle"),
    };
    let bytes: Vec<u8> = vectors
        .iter()
        .flatten()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Ok(std::fs::write(out, bytes)?)
}

fn embed(
    directory: &Path,
    precision: BertPrecision,
    sequences: &[Vec<u32>],
    at_once: usize,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let model = BertEmbedder::load(directory, precision)?;
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    model.embed(&sequences[..at_once.min(sequences.len())], &mut || ())?;
    let start = Instant::now();
    let mut vectors = Vec::with_capacity(sequences.len());
    for batch in sequences.chunks(at_once) {
        vectors.extend(model.embed(batch, &mut || ())?);
    }
    print_speed(sequences.len(), start);
    Ok(vectors)
}

fn embed_by_candle(
    directory: &Path,
    sequences: &[Vec<u32>],
    at_once: usize,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let config: Config = serde_json::from_slice(&std::fs::read(directory.join("config.json"))?)?;
    let weights = std::fs::read(directory.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
    let model = BertModel::load(weights, &config)?;
    padded_batch(&model, &sequences[..at_once.min(sequences.len())])?;
    let start = Instant::now();
    let mut vectors = Vec::with_capacity(sequences.len());
    for batch in sequences.chunks(at_once) {
        vectors.extend(padded_batch(&model, batch)?);
    }
    print_speed(sequences.len(), start);
    Ok(vectors)
}

/// The mean over the tokens of each row, scaled to length 1.
fn padded_batch(model: &BertModel, rows: &[Vec<u32>]) -> candle_core::Result<Vec<Vec<f32>>> {
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for row in rows {
        ids.extend_from_slice(row);
        ids.resize(ids.len() + width - row.len(), 0);
        mask.extend((0..width).map(|at| u32::from(at < row.len())));
    }
    let shape = (rows.len(), width);
    let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
    let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
    let hidden = model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
    let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
    let mean = hidden.broadcast_mul(&mask)?.sum(1)?;
    let mean = mean.broadcast_div(&mask.sum(1)?)?;
    let length = mean.sqr()?.sum_keepdim(1)?.sqrt()?;
    mean.broadcast_div(&length)?.to_vec2()
}

fn print_speed(count: usize, start: Instant) {
    let speed = count as f64 / start.elapsed().as_secs_f64();
    println!("speed: {speed:.2} texts/s");
}
