//! Prints the speed of the models: median of five runs after a warm-up.
//!
//! `throughput MODEL.gguf BERT_DIR`, on an idle machine; quantised and unpacked weights one after
//! the other.

use std::path::Path;
use std::time::Instant;

use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    BertEmbedder, EmbeddingModel, Llama, LlamaOptions, Sequence, SequentialModel,
};

const RUNS: usize = 5;
const PROMPT_TOKENS: usize = 512;
const DECODE_TOKENS: usize = 64;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, language, embedding] = arguments.as_slice() else {
        anyhow::bail!("usage: throughput MODEL.gguf BERT_DIR");
    };
    for (name, dequantize_below_bytes) in [("unpacked f32", u64::MAX), ("quantised", 0)] {
        let start = Instant::now();
        let options = LlamaOptions {
            tokens_max: 2048,
            dequantize_below_bytes,
        };
        let llama = Llama::load(&mut GgufFile::open(Path::new(language))?, options)?;
        println!("{name}: load {:.2} s", start.elapsed().as_secs_f64());
        measure_language(name, &llama)?;
    }
    measure_embedding(&BertEmbedder::load(Path::new(embedding))?)
}

fn measure_language(name: &str, llama: &Llama) -> anyhow::Result<()> {
    let prompt: Vec<u32> = (0..PROMPT_TOKENS as u32).map(|i| 1000 + i * 7).collect();
    let mut prefill = Vec::new();
    let mut decode = Vec::new();
    for _ in 0..=RUNS {
        let mut sequence = llama.new_sequence()?;
        prefill.push(rate(PROMPT_TOKENS, || {
            read(sequence.as_mut(), &prompt, 128)
        })?);
        decode.push(rate(DECODE_TOKENS, || {
            read(sequence.as_mut(), &prompt[..DECODE_TOKENS], 1)
        })?);
    }
    println!(
        "{name}: prefill {PROMPT_TOKENS}: {:.1} tokens/s",
        median(&mut prefill)
    );
    println!(
        "{name}: decode after {PROMPT_TOKENS}: {:.1} tokens/s",
        median(&mut decode)
    );
    Ok(())
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

fn read(sequence: &mut dyn Sequence, tokens: &[u32], step: usize) -> Result<(), Error> {
    tokens
        .chunks(step)
        .try_for_each(|chunk| sequence.append(chunk).map(drop))
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
