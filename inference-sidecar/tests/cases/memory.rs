//! Goal: a model takes little more memory than its file and the configured keys and values, while it
//! is loaded and after.

use std::path::Path;

use inference_sidecar::models::Format;
use tempfile::TempDir;

use super::sidecar::{self, Sidecar, greedy};
use super::tiny_model;

const MIB: u64 = 1 << 20;
const KV_MIB: u64 = 64;

/// The highest resident size so far, in bytes.
fn peak_bytes(sidecar: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")).unwrap();
    kib.trim().parse::<u64>().unwrap() * 1024
}

/// The peak after loading and one answer.
async fn peak_of(model: &Path) -> u64 {
    let kv = KV_MIB.to_string();
    let sidecar =
        Sidecar::with_language(model, &["--kv-mib", &kv, "--context-tokens", "2000"]).await;
    sidecar.answer(greedy("Hello", 4)).await;
    peak_bytes(&sidecar)
}

fn bound(file_bytes: u64) -> u64 {
    file_bytes * 13 / 10 + KV_MIB * MIB
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_model_is_in_memory_once() {
    let folder = TempDir::new().unwrap();
    let model = tiny_model::write_zeros(folder.path(), Format::Q8_0, 16, 65_536);
    let file_bytes = std::fs::metadata(&model).unwrap().len();
    assert!(file_bytes > 800 * MIB);
    let (peak, bound) = (peak_of(&model).await, bound(file_bytes));
    assert!(peak <= bound, "{} MiB, {} allowed", peak / MIB, bound / MIB);
    // Nothing of the file is left out either.
    assert!(peak > file_bytes, "{} MiB", peak / MIB);
}

/// What does not grow with the model (program, vocabulary, grammar tables) is more than the allowance
/// of a small one.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_model_is_in_memory_once() {
    const FIXED: u64 = 48 * MIB;
    let Some(model) = sidecar::language_model("a_small_model_is_in_memory_once") else {
        return;
    };
    let file_bytes = std::fs::metadata(&model).unwrap().len();
    let (peak, bound) = (peak_of(&model).await, bound(file_bytes) + FIXED);
    assert!(peak <= bound, "{} MiB, {} allowed", peak / MIB, bound / MIB);
}
