//! Goal: no bytes make the readers of a safetensors model panic or allocate much more than their
//! length: neither the weights nor the JSON files beside them.

#![no_main]

#[allow(dead_code)]
#[path = "../../inference-sidecar/tests/cases/whole_reading.rs"]
mod whole_reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if bytes.first() == Some(&b'{') {
        whole_reading::model_json(bytes);
    } else {
        let _ = whole_reading::safetensors(bytes.to_vec());
    }
});
