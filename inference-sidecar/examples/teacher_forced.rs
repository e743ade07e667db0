//! Writes the logits of a GGUF model on given tokens, for the comparison in `reference/`.
//!
//! `teacher_forced MODEL.gguf JOB.json OUT.f32 [quantized]`: the job has "prompt" and "tokens"; the
//! output has one row of logits per entry of "tokens", the row that predicts it.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{Llama, LlamaOptions, SequentialModel};

#[derive(serde::Deserialize)]
struct Job {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, job, out, mode @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: teacher_forced MODEL.gguf JOB.json OUT.f32 [quantized]");
    };
    let dequantize_below_bytes = if mode.is_empty() { u64::MAX } else { 0 };
    let options = LlamaOptions {
        tokens_max: 8192,
        dequantize_below_bytes,
    };
    let llama = Llama::load(&mut GgufFile::open(Path::new(model))?, options)?;
    let job: Job = serde_json::from_str(&std::fs::read_to_string(job)?)?;

    let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
    let mut sequence = llama.new_sequence()?;
    let mut logits = Vec::new();
    for chunk in job.prompt.chunks(64) {
        logits = sequence.append(chunk)?;
    }
    let (_, fed) = job.tokens.split_last().context("no tokens")?;
    write_row(&mut out, &logits)?;
    for token in fed {
        write_row(&mut out, &sequence.append(&[*token])?)?;
    }
    Ok(out.flush()?)
}

fn write_row(out: &mut impl Write, row: &[f32]) -> std::io::Result<()> {
    row.iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
}
