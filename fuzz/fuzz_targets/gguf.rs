//! Goal: no bytes make the GGUF reader panic or allocate much more than their length.

#![no_main]

#[allow(dead_code)]
#[path = "../../inference-sidecar/tests/cases/whole_reading.rs"]
mod whole_reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = whole_reading::gguf(bytes.to_vec());
});
