//! Goal: a file that is not what it should be ends the start with a clear message, never a crash.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::sidecar::{self, PATIENCE};

fn start(arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("socket");
    let mut command = sidecar::command(&socket);
    let mut child = command
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    // A file that is accepted would be served for ever.
    while child.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    // It may have ended already.
    let _ = child.kill();
    assert!(!socket.exists());
    child.wait_with_output().unwrap()
}

fn check_refused(arguments: &[&str], expected: &str) {
    let output = start(arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains(expected),
        "expected {expected:?} in:\n{message}"
    );
}

fn check_gguf(name: &str, bytes: &[u8], expected: &str) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    check_refused(
        &["--language-model", &format!("m={}", path.display())],
        expected,
    );
}

#[test]
fn missing_files() {
    check_refused(
        &["--language-model", "m=/nowhere.gguf"],
        "could not read \"/nowhere.gguf\"",
    );
    check_refused(&["--embedding-model", "m=/nowhere"], "could not read");
}

#[test]
fn files_that_are_no_gguf() {
    let noise: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    check_gguf("empty.gguf", b"", "the file is empty");
    check_gguf("noise.gguf", &noise, "not a GGUF file");
    check_gguf("header.gguf", b"GGUF\x03\0\0\0", "not a GGUF file");
    let counts = [b"GGUF\x03\0\0\0".as_slice(), &[0xff; 16]].concat();
    check_gguf("counts.gguf", &counts, "not a GGUF file");
    let no_entries = [b"GGUF\x03\0\0\0".as_slice(), &[0; 16], &[0; 64]].concat();
    check_gguf(
        "bare.gguf",
        &no_entries,
        "\"tokenizer.ggml.model\" is missing",
    );
    // The alignment divides.
    let key = b"general.alignment";
    let entry = [
        &(key.len() as u64).to_le_bytes()[..],
        key,
        &0u32.to_le_bytes(),
        &[0],
    ]
    .concat();
    let header = [
        b"GGUF\x03\0\0\0".as_slice(),
        &0u64.to_le_bytes(),
        &1u64.to_le_bytes(),
    ]
    .concat();
    check_gguf(
        "alignment.gguf",
        &[header, entry, vec![0; 64]].concat(),
        "\"general.alignment\" is 0, no power of two",
    );
}

#[test]
fn a_changed_gguf() {
    let Some(model) = sidecar::language_model("a_changed_gguf") else {
        return;
    };
    let named = format!("m={}", model.display());
    let wrong = format!("m={}", "0".repeat(64));
    check_refused(
        &["--language-model", &named, "--expect-sha256", &wrong],
        "have SHA-256",
    );

    let bytes = std::fs::read(&model).unwrap();
    check_gguf(
        "short.gguf",
        &bytes[..bytes.len() / 2],
        "the file is truncated",
    );
    check_gguf("shorter.gguf", &bytes[..100_000], "not a GGUF file");
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.clone();
        let at = bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    check_gguf(
        "a.gguf",
        &replaced("llama", "llamb"),
        "architecture \"llamb\"",
    );
    check_gguf(
        "b.gguf",
        &replaced("blk.7.ffn_up", "blk.7.ffn_xx"),
        "\"blk.7.ffn_up.weight\" is missing",
    );
    check_gguf(
        "c.gguf",
        &replaced("\x06\0\0\0\0\0\0\0smollm", "\x06\0\0\0\0\0\0\0smollx"),
        "pre-tokenizer \"smollx\"",
    );
    check_gguf(
        "d.gguf",
        &replaced("{% for ", "{% fur "),
        "bad chat template",
    );
    let heads = b"llama.attention.head_count\x04\0\0\0";
    let at = bytes
        .windows(heads.len())
        .position(|window| window == heads)
        .unwrap()
        + heads.len();
    for (count, expected) in [
        (0u32, "expected 1 to"),
        (7, "do not divide"),
        (u32::MAX, "expected 1 to"),
    ] {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
        check_gguf("heads.gguf", &bytes, expected);
    }
}

#[test]
fn a_changed_bert() {
    let Some(model) = sidecar::embedding_model("a_changed_bert") else {
        return;
    };
    let check = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, expected: &str| {
        let folder = TempDir::new().unwrap();
        copy(&model, folder.path());
        let path = folder.path().join(file);
        std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
        check_refused(
            &[
                "--embedding-model",
                &format!("m={}", folder.path().display()),
            ],
            expected,
        );
    };
    check(
        "model.safetensors",
        &|bytes| bytes[..bytes.len() / 2].to_vec(),
        "not usable",
    );
    check(
        "model.safetensors",
        &|bytes| vec![0xff; bytes.len().min(4096)],
        "not usable",
    );
    check("config.json", &|_| b"{}".to_vec(), "missing field");
    check("tokenizer.json", &|_| b"{}".to_vec(), "not a tokenizer");
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            String::from_utf8(bytes)
                .unwrap()
                .replace(from, to)
                .into_bytes()
        }
    };
    check(
        "config.json",
        &replace("\"hidden_size\": 384", "\"hidden_size\": 768"),
        "not usable",
    );
    check(
        "config.json",
        &replace("\"num_attention_heads\": 12", "\"num_attention_heads\": 0"),
        "out of range",
    );
    check(
        "1_Pooling/config.json",
        &replace(
            "\"pooling_mode_mean_tokens\": true",
            "\"pooling_mode_mean_tokens\": false",
        ),
        "pooling",
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("1_Pooling")).unwrap();
    for file in [
        "config.json",
        "tokenizer.json",
        "sentence_bert_config.json",
        "modules.json",
        "1_Pooling/config.json",
        "model.safetensors",
    ] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}
