//! Writes the files that fuzzing starts from to the directory SALESAI_FUZZ_CORPUS: made ones, and the XML of the
//! office documents in the directory SALESAI_FUZZ_DOCUMENTS, where that is given.
//!
//! A fuzz target that is never run, because the library's coverage counters need libFuzzer.

#![no_main]

#[cfg(feature = "models")]
#[allow(dead_code)]
#[path = "../inference-sidecar/tests/cases/gguf_builder.rs"]
mod gguf_builder;
#[allow(dead_code)]
mod parts;
#[cfg(feature = "models")]
#[allow(dead_code)]
#[path = "../inference-sidecar/tests/cases/safetensors_builder.rs"]
mod safetensors_builder;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;

/// As -max_len of fuzz.sh.
const SEED_BYTES_MAX: usize = 64 << 10;

libfuzzer_sys::fuzz_target!(init: write_seeds(), |_bytes: &[u8]| {});

fn write_seeds() {
    let corpus = std::env::var_os("SALESAI_FUZZ_CORPUS").expect("the directory of the corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&corpus).join(target);
        fs::create_dir_all(&folder).expect("make the folder of the corpus");
        fs::write(folder.join(name), bytes).expect("write a seed");
    };
    #[cfg(feature = "models")]
    write_models(&write);
    if let Some(documents) =
        std::env::var_os("SALESAI_FUZZ_DOCUMENTS").filter(|folder| !folder.is_empty())
    {
        for (name, seed) in office_parts(Path::new(&documents)) {
            write("office", &name, &seed);
        }
    }
}

/// Small files of models.
#[cfg(feature = "models")]
fn write_models(write: &dyn Fn(&str, &str, &[u8])) {
    let sample = gguf_builder::sample();
    let empty = gguf_builder::GgufBuilder::default();
    let small = gguf_builder::GgufBuilder {
        version: 2,
        alignment: 8,
        ..empty
            .clone()
            .texts("texts", &["a"])
            .vector("v", &[1.0, 2.0])
    };
    for (name, builder) in [("all", &sample), ("empty", &empty), ("small", &small)] {
        write("gguf", name, &builder.build());
    }
    let index = r#"{"weight_map": {"a": "b.safetensors", "c": "d.safetensors"}}"#;
    let config = safetensors_builder::llama_config().to_string();
    write("safetensors", "all", &safetensors_builder::sample());
    write("safetensors", "index", index.as_bytes());
    write("safetensors", "config", config.as_bytes());
}

/// The parts of real documents as inputs of `office`.
fn office_parts(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let files = fs::read_dir(folder).expect("list the documents");
    for path in files.map(|file| file.expect("read the list").path()) {
        let Ok(mut archive) = ZipArchive::new(File::open(&path).expect("open a document")) else {
            continue;
        };
        for (number, part) in (0_u8..).zip(&parts::PARTS) {
            let Ok(file) = archive.by_name(part.name) else {
                continue;
            };
            let mut seed = vec![number];
            // A damaged one tells nothing.
            if file
                .take(SEED_BYTES_MAX as u64)
                .read_to_end(&mut seed)
                .is_ok()
            {
                let name = path.file_name().expect("is a file").to_string_lossy();
                seed.truncate(SEED_BYTES_MAX);
                seeds.push((format!("{name}-{number}"), seed));
            }
        }
    }
    seeds
}
