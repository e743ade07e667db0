//! Goal: a model in the shape of Llama 3.1 computes what llama.cpp computes, at positions below and
//! above 8,192, and in every format of weights. `reference/README.md` says where the tolerances come
//! from.

use std::path::Path;

use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{Format, Llama, LlamaOptions};
use inference_sidecar::safetensors_model::SafetensorsModel;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::forward::{log_softmax, logits};
use super::{tiny_model, tiny_safetensors};

/// Largest difference of a logit from llama.cpp, both in f32; the logits' spread is 1.9.
const LOGIT_TOLERANCE: f32 = 2e-3;

/// `tiny_llama.json`; the logits are in `tiny_llama.bin`, run after run.
#[derive(serde::Deserialize)]
struct Fixture {
    prompt_stream: u64,
    runs: Vec<Run>,
}

#[derive(serde::Deserialize)]
struct Run {
    format: String,
    /// Of the file that llama.cpp read.
    sha256: String,
    tokens: usize,
    positions: Vec<usize>,
    /// Largest Kullback-Leibler divergence of llama.cpp from the same pass in f64.
    divergence: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/tiny_llama.json")).unwrap()
}

impl Fixture {
    fn prompt(&self, tokens: usize) -> Vec<u32> {
        tiny_model::prompt(self.prompt_stream, tokens)
    }

    /// Each run with llama.cpp's logits, a row per position.
    fn runs(&self) -> Vec<(&Run, Vec<Vec<f32>>)> {
        let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        let bytes = include_bytes!("../fixtures/tiny_llama.bin");
        let values: Vec<f32> = bytes.chunks_exact(4).map(value).collect();
        let mut rows = values
            .chunks_exact(tiny_model::vocabulary_size())
            .map(<[f32]>::to_vec);
        let runs = self.runs.iter();
        let runs = runs.map(|run| {
            let rows: Vec<_> = rows.by_ref().take(run.positions.len()).collect();
            assert_eq!(rows.len(), run.positions.len());
            (run, rows)
        });
        let runs = runs.collect();
        assert!(rows.next().is_none());
        runs
    }

    /// The run of the F32 file over the long prompt, the first one.
    fn long_run(&self) -> (&Run, Vec<Vec<f32>>) {
        self.runs().swap_remove(0)
    }
}

impl Run {
    fn format(&self) -> Format {
        let name = |format: &Format| format!("{format:?}").to_uppercase();
        let wanted = self.format.replace("_K", "K");
        Format::ALL.into_iter().find(|f| name(f) == wanted).unwrap()
    }
}

fn load(path: &Path) -> Llama {
    Llama::from_gguf(&GgufFile::open(path).unwrap(), &LlamaOptions::exact()).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

fn check_close(positions: &[usize], expected: &[Vec<f32>], found: &[Vec<f32>]) {
    let mut worst = 0f32;
    for ((position, expected), found) in positions.iter().zip(expected).zip(found) {
        let difference = largest_difference(expected, found);
        worst = worst.max(difference);
        assert!(
            difference <= LOGIT_TOLERANCE,
            "position {position}: {difference}"
        );
    }
    println!("largest difference {worst:.2e}");
}

fn divergence(expected: &[f32], found: &[f32]) -> f64 {
    let (p, q) = (log_softmax(expected), log_softmax(found));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

#[test]
fn tiny_models_are_those_that_llama_cpp_read() {
    let folder = TempDir::new().unwrap();
    for run in fixture().runs {
        let path = tiny_model::write(folder.path(), run.format());
        let bytes = std::fs::read(path).unwrap();
        let sha256 = format!("{:x}", Sha256::digest(&bytes));
        assert_eq!(sha256, run.sha256, "{}", run.format);
    }
}

#[test]
fn tiny_llama_matches_llama_cpp_beyond_8192() {
    let folder = TempDir::new().unwrap();
    let fixture = fixture();
    let (run, expected) = fixture.long_run();
    assert!(run.positions.iter().any(|&p| p < 8192) && run.positions.iter().any(|&p| p > 8192));
    let mut model = load(&tiny_model::write(folder.path(), run.format()));
    let found = logits(&mut model, &fixture.prompt(run.tokens), &run.positions);
    check_close(&run.positions, &expected, &found);
}

#[test]
fn tiny_llama_matches_llama_cpp_in_every_format() {
    // llama.cpp rounds activations in all formats but F32. Without rounding of its own the sidecar may
    // be as far from llama.cpp as the exact values are, and hardly further.
    check_formats(&LlamaOptions::exact(), 1.2);
}

#[test]
fn fast_tiny_llama_matches_llama_cpp_in_every_format() {
    // Two independent roundings are twice as far apart as one of them from the exact values, on
    // average; the largest of a few steps may be further. Keys and values in f16 add 2e-6.
    check_formats(&LlamaOptions::cpu(), 4.0);
}

fn check_formats(options: &LlamaOptions, factor: f64) {
    let folder = TempDir::new().unwrap();
    let fixture = fixture();
    let short_runs = &fixture.runs()[1..];
    assert_eq!(short_runs.len(), Format::ALL.len());
    for (run, expected) in short_runs {
        let file = GgufFile::open(&tiny_model::write(folder.path(), run.format())).unwrap();
        let mut model = Llama::from_gguf(&file, options).unwrap();
        let found = logits(&mut model, &fixture.prompt(run.tokens), &run.positions);
        if run.format == "F32" && factor < 2.0 {
            check_close(&run.positions, expected, &found);
        }
        let allowed = factor * (run.divergence + 1e-6);
        let divergences = expected.iter().zip(&found).map(|(e, f)| divergence(e, f));
        let largest = divergences.fold(0.0, f64::max);
        println!(
            "{}: divergence {largest:.2e}, allowed {allowed:.2e}",
            run.format
        );
        assert!(largest <= allowed, "{}: {largest} > {allowed}", run.format);
    }
}

/// The test above would be worth little if the factors hardly changed the logits.
#[test]
fn rope_factors_change_the_logits() {
    let folder = TempDir::new().unwrap();
    let fixture = fixture();
    let (run, expected) = fixture.long_run();
    let mut tensors = tiny_model::tensors(Format::F32);
    tensors.retain(|tensor| tensor.name != "rope_freqs.weight");
    let mut model = load(&tiny_model::write_tensors(folder.path(), &tensors));
    let position = 1000;
    let row = run.positions.iter().position(|&p| p == position).unwrap();
    let found = logits(&mut model, &fixture.prompt(position + 1), &[position]);
    assert!(largest_difference(&expected[row], &found[0]) > 0.5);
}

/// The same weights, named and ordered as Hugging Face does, with `rope_scaling` in the
/// configuration instead of factors in the file.
#[test]
fn tiny_llama_from_safetensors_matches_llama_cpp() {
    let folder = TempDir::new().unwrap();
    tiny_safetensors::write(folder.path(), Format::F32);
    let files = SafetensorsModel::open(folder.path()).unwrap();
    let mut model = Llama::from_safetensors(&files, &LlamaOptions::exact()).unwrap();
    let fixture = fixture();
    let (run, expected) = fixture.long_run();
    let positions: Vec<usize> = run
        .positions
        .iter()
        .copied()
        .filter(|&p| p <= 4096)
        .collect();
    let found = logits(&mut model, &fixture.prompt(4097), &positions);
    check_close(&positions, &expected[..positions.len()], &found);
}
