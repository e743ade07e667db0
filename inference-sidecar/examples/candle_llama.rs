//! Prints the speed of candle's own `quantized_llama`, the figures that it has in common with
//! `examples/throughput`: one run after a warm-up.
//!
//! `candle_llama MODEL.gguf`

use std::fs::File;
use std::time::Instant;

use anyhow::Context;
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

const PROMPT_TOKENS: u32 = 512;
const DECODE_TOKENS: usize = 64;

fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .context("usage: candle_llama MODEL.gguf")?;
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let prompt: Vec<u32> = (0..PROMPT_TOKENS).map(|i| 1000 + i * 7).collect();
    let mut read = |tokens: &[u32], position: usize| -> anyhow::Result<()> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        // At position 0 it begins anew.
        model.forward(&input, position)?;
        Ok(())
    };
    for is_measured in [false, true] {
        let start = Instant::now();
        read(&prompt, 0)?;
        if is_measured {
            print_speed(&format!("prefill {PROMPT_TOKENS}"), prompt.len(), start);
        }
    }
    for is_measured in [false, true] {
        let start = Instant::now();
        for (position, token) in prompt.chunks(1).take(DECODE_TOKENS).enumerate() {
            read(token, position)?;
        }
        if is_measured {
            print_speed("decode 1 at 0", DECODE_TOKENS, start);
        }
    }
    Ok(())
}

fn print_speed(name: &str, tokens: usize, start: Instant) {
    let speed = tokens as f64 / start.elapsed().as_secs_f64();
    println!("{name}: {speed:.1} tokens/s");
}
