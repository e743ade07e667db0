//! Writes small safetensors files and the JSON files beside them.

use std::path::Path;

/// Name, type, shape and bytes of a tensor.
pub type TensorEntry<'a> = (&'a str, &'a str, &'a [usize], &'a [u8]);

/// A file with these tensors one after the other.
pub fn build(tensors: &[TensorEntry]) -> Vec<u8> {
    let mut start = 0;
    let mut header = serde_json::Map::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [start, start + bytes.len()];
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert((*name).into(), entry);
        start += bytes.len();
    }
    let weights: Vec<&[u8]> = tensors.iter().map(|(_, _, _, bytes)| *bytes).collect();
    with_header(
        &serde_json::Value::from(header).to_string(),
        &weights.concat(),
    )
}

/// A file with a header that may be wrong.
pub fn with_header(header: &str, weights: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), weights].concat()
}

/// A small file with each supported type, one that is not, and a tensor of one dimension.
pub fn sample() -> Vec<u8> {
    build(&[
        ("f32", "F32", &[2, 2], &f32_bytes(&[1.0, -2.0, 3.0, 0.5])),
        ("f16", "F16", &[1, 2], &[0x00, 0x3c, 0x00, 0xc0]),
        ("bf16", "BF16", &[2, 1], &[0x80, 0x3f, 0x00, 0xc0]),
        ("vector", "F32", &[3], &f32_bytes(&[1.0, 2.0, 4.0])),
        ("i8", "I8", &[2, 2], &[1, 2, 3, 4]),
    ])
}

/// The bytes of values in f32.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// `config.json` of Llama 3.1 8B.
pub fn llama_config() -> serde_json::Value {
    serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 131_072,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3"
        },
        "rope_theta": 500_000.0,
        "tie_word_embeddings": false,
        "vocab_size": 128_256
    })
}

/// Writes a model of one file, or of several with an index when there are more.
pub fn write_model(directory: &Path, config: &serde_json::Value, files: &[(&str, &[TensorEntry])]) {
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let mut weight_map = serde_json::Map::new();
    for (file, tensors) in files {
        std::fs::write(directory.join(file), build(tensors)).unwrap();
        weight_map.extend(tensors.iter().map(|t| (t.0.into(), (*file).into())));
    }
    if files.len() > 1 {
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": weight_map});
        let path = directory.join("model.safetensors.index.json");
        std::fs::write(path, index.to_string()).unwrap();
    }
}
