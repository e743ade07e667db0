//! What keys and values in 8 bits change: reads the sample calls with them in f16 and in int8, and prints how
//! well each predicts the text and how far the second is from the first.
//!
//! `kv_cache MODEL.gguf`

#[path = "verify_model/reader.rs"]
mod reader;
#[path = "verify_model/scores.rs"]
mod scores;

use std::path::Path;

use anyhow::Context;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{Compute, Llama, LlamaOptions, Precision};
use inference_sidecar::text::ChatTokenizer;
use scores::log_softmax;

const TEXT: &str = include_str!("../reference/perplexity.txt");

fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .context("usage: kv_cache MODEL.gguf")?;
    let file = GgufFile::open(Path::new(&path))?;
    let tokenizer = ChatTokenizer::from_gguf(&file)?;
    let text = tokenizer.text();
    let tokens = text.with_special_tokens(&text.encode(TEXT)?);
    let half = predictions(&file, Precision::Fast, &tokens)?;
    let byte = predictions(&file, Precision::Compact, &tokens)?;

    let bits = |rows: &[Vec<f32>]| {
        let costs = rows.iter().zip(&tokens[1..]);
        let nats: f64 = costs
            .map(|(row, &token)| -f64::from(row[token as usize]))
            .sum();
        nats / std::f64::consts::LN_2 / TEXT.len() as f64
    };
    println!("{} tokens", tokens.len());
    println!("float16: {:.4} bits per byte", bits(&half));
    println!("int8: {:.4} bits per byte", bits(&byte));
    let mut divergences: Vec<f64> = half.iter().zip(&byte).map(divergence).collect();
    divergences.sort_by(f64::total_cmp);
    let count = divergences.len();
    println!(
        "divergence of int8 from float16: mean {:.1e}, 99th percentile {:.1e}, largest {:.1e}",
        divergences.iter().sum::<f64>() / count as f64,
        divergences[count * 99 / 100],
        divergences[count - 1]
    );
    let likeliest = |row: &Vec<f32>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let pairs = half.iter().zip(&byte);
    let equal = pairs.filter(|(a, b)| likeliest(a) == likeliest(b)).count();
    println!("likeliest token equal after {equal} of {count} tokens");
    Ok(())
}

/// Logarithms of the probabilities of all tokens, after each token but the last.
fn predictions(
    file: &GgufFile,
    precision: Precision,
    tokens: &[u32],
) -> anyhow::Result<Vec<Vec<f32>>> {
    let options = LlamaOptions {
        compute: Compute::Host(precision),
        ..LlamaOptions::cpu()
    };
    let mut llama = Llama::from_gguf(file, &options)?;
    let mut rows = Vec::with_capacity(tokens.len());
    reader::read(&mut llama, tokens, |_, scores| {
        let row = log_softmax(scores);
        rows.push(row.into_iter().map(|value| value as f32).collect());
    })?;
    rows.pop();
    Ok(rows)
}

/// Kullback and Leibler's, in nats.
fn divergence((p, q): (&Vec<f32>, &Vec<f32>)) -> f64 {
    let pairs = p.iter().zip(q);
    let pairs = pairs.map(|(&p, &q)| (f64::from(p), f64::from(q)));
    pairs.map(|(p, q)| p.exp() * (p - q)).sum()
}
