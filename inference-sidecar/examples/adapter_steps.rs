//! Prints how much longer a step takes with LoRA adapters than without, beside the time that reading them from
//! memory takes.
//!
//! `adapter_steps STEPS MODEL.gguf`, on an idle machine. Adapters are random, of rank 16 on all linear layers. Each
//! sequence decodes one token a step, with an adapter of its own; steps with and without adapters alternate.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    Adapter, AdapterBase, BatchPlan, BlockId, Format, KV_BLOCK_TOKENS, LanguageModel, Llama,
    LlamaOptions, LogitsOf, LowRank, Matrix, Module, SequencePlan,
};
use kernels::{Arena, DenseMatrix, Level, Pool, read_bandwidth};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const RANK: usize = 16;
/// Sequences that decode together.
const SEQUENCES: [usize; 2] = [1, 8];
const BLOCKS_EACH: usize = 8;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, steps, model] = arguments.as_slice() else {
        anyhow::bail!("usage: adapter_steps STEPS MODEL.gguf");
    };
    let steps: usize = steps.parse().context("STEPS is no number")?;
    let mut llama = Llama::from_gguf(&GgufFile::open(Path::new(model))?, &LlamaOptions::cpu())?;
    let most = SEQUENCES[SEQUENCES.len() - 1];
    llama.reserve_kv(most * BLOCKS_EACH)?;
    let base = llama.adapter_base();
    let mut random = StdRng::seed_from_u64(1);
    for format in [Format::Bf16, Format::F32] {
        let adapters = (0..most).map(|_| adapter(&base, format, &mut random));
        let adapters = adapters.collect::<anyhow::Result<Vec<_>>>()?;
        for count in SEQUENCES {
            measure(&mut llama, &adapters[..count], steps, format)?;
        }
    }
    Ok(())
}

fn adapter(
    base: &AdapterBase,
    format: Format,
    random: &mut StdRng,
) -> anyhow::Result<Arc<Adapter>> {
    let mut arena = Arena::default();
    let mut matrix = |rows: usize, columns: usize| {
        let value = |_| {
            let bytes = random.random_range(-0.01f32..0.01).to_le_bytes();
            match format {
                // A bf16 is the upper half of an f32.
                Format::Bf16 => bytes[2..].to_vec(),
                _ => bytes.to_vec(),
            }
        };
        let bytes = (0..rows * columns).flat_map(value).collect();
        let matrix = Matrix::new(format, rows, columns, bytes).context("sizes do not fit")?;
        anyhow::Ok(DenseMatrix::from_matrix(&mut arena, &matrix)?)
    };
    let mut layers = Vec::new();
    for _ in 0..base.layers {
        let mut changes = [const { None }; Module::COUNT];
        for module in Module::ALL {
            let (outputs, inputs) = base.shape(module);
            changes[module as usize] = Some(LowRank {
                a: matrix(RANK, inputs)?,
                b: matrix(outputs, RANK)?,
                scale: 2.0,
            });
        }
        layers.push(changes);
    }
    Ok(Arc::new(Adapter::new(layers)))
}

fn measure(
    llama: &mut Llama,
    adapters: &[Arc<Adapter>],
    steps: usize,
    format: Format,
) -> anyhow::Result<()> {
    let (mut plain, mut changed, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..2 * steps {
        let is_changed = step % 2 == 1;
        let start = Instant::now();
        decode(llama, adapters, is_changed, &mut scores)?;
        let times = if is_changed { &mut changed } else { &mut plain };
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let (plain, changed) = (median(plain), median(changed));
    let bytes: u64 = adapters.iter().map(|adapter| adapter.bytes()).sum();
    let bandwidth = read_bandwidth(Pool::global(), Level::best(), 3)?;
    let reading = bytes as f64 / bandwidth * 1e3;
    println!(
        "- {} sequences, an adapter each in {format:?}: {plain:.3} ms without, {changed:.3} ms with; reading their \
         {:.1} MB takes {reading:.3} ms at {:.1} GB/s; the step grows by {:.2} times that",
        adapters.len(),
        bytes as f64 / 1e6,
        bandwidth / 1e9,
        (changed - plain) / reading,
    );
    Ok(())
}

/// A token in each sequence.
fn decode(
    llama: &mut Llama,
    adapters: &[Arc<Adapter>],
    is_changed: bool,
    scores: &mut Vec<f32>,
) -> anyhow::Result<()> {
    let blocks: Vec<BlockId> = (0u32..)
        .take(adapters.len() * BLOCKS_EACH)
        .map(BlockId)
        .collect();
    let sequences = adapters.iter().zip(blocks.chunks(BLOCKS_EACH));
    let sequences = sequences.map(|(adapter, blocks)| SequencePlan {
        tokens: &[1000],
        position: KV_BLOCK_TOKENS,
        blocks: &blocks[..2],
        adapter: is_changed.then_some(adapter),
        logits: LogitsOf::LastToken,
    });
    let plan = BatchPlan {
        sequences: sequences.collect(),
        is_abandoned: &|| false,
    };
    llama.forward(&plan, scores)?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
