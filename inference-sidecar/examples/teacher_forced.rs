//! Writes the logits of a GGUF model on given tokens, for the comparison in `reference/`.
//!
//! `teacher_forced MODEL.gguf JOB.json OUT.f32 [exact|candle]`: the job has "prompt" and "tokens"; the
//! output has one row of logits per entry of "tokens", the row that predicts it. With `candle` it
//! computes by candle's operators instead of the sidecar's own.

#[path = "verify_model/reader.rs"]
mod reader;

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use candle_core::Device;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{Compute, Llama, LlamaOptions, Precision};

#[derive(serde::Deserialize)]
struct Job {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, job, out, mode @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: teacher_forced MODEL.gguf JOB.json OUT.f32 [exact|candle]");
    };
    let compute = match mode {
        [] => Compute::Host(Precision::Fast),
        [mode] if mode == "exact" => Compute::Host(Precision::Exact),
        [mode] if mode == "candle" => Compute::Candle(Device::Cpu),
        _ => anyhow::bail!("modes are exact and candle"),
    };
    let options = LlamaOptions {
        compute,
        ..LlamaOptions::cpu()
    };
    let mut llama = Llama::from_gguf(&GgufFile::open(Path::new(model))?, &options)?;
    let job: Job = serde_json::from_str(&std::fs::read_to_string(job)?)?;
    let (_, fed) = job.tokens.split_last().context("no tokens")?;
    let first = job.prompt.len().checked_sub(1).context("no prompt")?;

    let mut out = BufWriter::new(std::fs::File::create(out)?);
    let mut written = Ok(());
    reader::read(&mut llama, &[&job.prompt, fed].concat(), |position, row| {
        if position >= first && written.is_ok() {
            written = write_row(&mut out, row);
        }
    })?;
    written?;
    Ok(out.flush()?)
}

fn write_row(out: &mut impl Write, row: &[f32]) -> io::Result<()> {
    row.iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
}
