//! Checks Llama weights that the project cannot have: `make verify-model MODEL=...`.
//!
//! - `conversations`: tokenizer and chat template against Hugging Face's, for Llama 3.1
//! - `perplexity`: how well the model predicts a fixed text, and what is expected
//! - `agreement`: the same logits as llama.cpp, where that is installed
//!
//! Each check prints `ok`, `failed` or `skipped` with its reason; the exit status is 1 if one failed.

mod agreement;
mod conversations;
mod perplexity;
mod reader;
mod scores;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{Llama, LlamaOptions};
use inference_sidecar::safetensors_model::SafetensorsModel;
use inference_sidecar::text::ChatTokenizer;

/// The text whose tokens are predicted: two calls of the sample deal room, which no model has read.
const TEXT: &str = include_str!("../../reference/perplexity.txt");

#[derive(Parser)]
struct Arguments {
    /// A GGUF file or a Hugging Face directory.
    model: PathBuf,
    /// What reference/run_llama_cpp.py wrote for the same model and text.
    #[arg(long)]
    llama_cpp: Option<PathBuf>,
    /// Why there is nothing of llama.cpp, if there is not.
    #[arg(long, default_value = "it was not run")]
    no_llama_cpp: String,
}

/// What came of a check; each text is for people.
pub enum Outcome {
    Ok(String),
    Failed(String),
    Skipped(String),
}

struct Model {
    llama: Llama,
    tokenizer: ChatTokenizer,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut model = load(&arguments.model)?;
    let reference = arguments.llama_cpp.as_deref();
    let reference = reference.map(agreement::Reference::read).transpose()?;

    let mut has_failed = false;
    let mut report = |check: &str, outcome: Outcome| {
        let (word, detail) = match outcome {
            Outcome::Ok(detail) => ("ok", detail),
            Outcome::Failed(detail) => ("failed", detail),
            Outcome::Skipped(detail) => ("skipped", detail),
        };
        has_failed |= word == "failed";
        println!("{check}: {word}: {detail}");
    };
    report(
        "tokenizer and template",
        conversations::check(&model.tokenizer)?,
    );

    let text = model.tokenizer.text();
    let tokens = text.with_special_tokens(&text.encode(TEXT)?);
    let mut comparison = reference.as_ref().map(agreement::Comparison::new);
    let mut bits = perplexity::Bits::new(&tokens);
    reader::read(&mut model.llama, &tokens, |position, logits| {
        bits.add(position, logits);
        if let Some(comparison) = &mut comparison {
            comparison.add(position, logits);
        }
    })?;
    report("perplexity", bits.judge(TEXT.len(), &model.llama));
    report(
        "agreement with llama.cpp",
        match comparison {
            Some(comparison) => comparison.judge(&tokens),
            None => Outcome::Skipped(arguments.no_llama_cpp),
        },
    );
    Ok(ExitCode::from(u8::from(has_failed)))
}

fn load(path: &Path) -> anyhow::Result<Model> {
    let options = LlamaOptions::cpu();
    if path.is_dir() {
        let files = SafetensorsModel::open(path)?;
        Ok(Model {
            llama: Llama::from_safetensors(&files, &options)?,
            tokenizer: ChatTokenizer::from_directory(path)?,
        })
    } else {
        let file = GgufFile::open(path)?;
        Ok(Model {
            llama: Llama::from_gguf(&file, &options)?,
            tokenizer: ChatTokenizer::from_gguf(&file)?,
        })
    }
}
