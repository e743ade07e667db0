//! Writes the files that fuzzing starts from to the directory SALESAI_FUZZ_CORPUS.
//!
//! A fuzz target that is never run, because the library's coverage counters need libFuzzer.

#![no_main]

#[allow(dead_code)]
#[path = "../inference-sidecar/tests/cases/gguf_builder.rs"]
mod gguf_builder;
#[allow(dead_code)]
#[path = "../inference-sidecar/tests/cases/safetensors_builder.rs"]
mod safetensors_builder;

use std::path::Path;

libfuzzer_sys::fuzz_target!(init: write_seeds(), |_bytes: &[u8]| {});

fn write_seeds() {
    let corpus = std::env::var_os("SALESAI_FUZZ_CORPUS").expect("the directory of the corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&corpus).join(target);
        std::fs::create_dir_all(&folder).expect("make the folder of the corpus");
        std::fs::write(folder.join(name), bytes).expect("write a seed");
    };
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
