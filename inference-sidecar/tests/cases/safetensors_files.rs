//! Goal: a Llama model in a Hugging Face directory reads back as it was written, and no damaged one
//! is accepted by mistake, makes the reader panic, or makes it allocate by a number of a header.

use std::path::Path;

use inference_sidecar::models::Format;
use inference_sidecar::safetensors_model::{
    LlamaConfig, RopeScaling, SafetensorsModel, WeightFile, WeightIndex,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::safetensors_builder::{
    build, f32_bytes, llama_config, sample, with_header, write_model,
};
use super::{damage, whole_reading};

fn parse(bytes: Vec<u8>) -> WeightFile {
    WeightFile::parse(bytes, Path::new("test.safetensors")).unwrap()
}

fn check_refused(bytes: Vec<u8>, expected: &str) {
    let error = WeightFile::parse(bytes, Path::new("test.safetensors")).err();
    let message = error.map_or("accepted".into(), |error| error.to_string());
    assert!(message.contains(expected), "{message:?}, not {expected:?}");
}

#[test]
fn tensors_read_back() {
    let file = parse(sample());
    for (name, format, rows, columns, expected) in [
        ("f32", Format::F32, 2, 2, &[1.0, -2.0, 3.0, 0.5][..]),
        ("f16", Format::F16, 1, 2, &[1.0, -2.0]),
        ("bf16", Format::Bf16, 2, 1, &[1.0, -2.0]),
    ] {
        let matrix = file.matrix(name, rows, columns).unwrap();
        assert_eq!(
            (matrix.format, matrix.to_f32().as_slice()),
            (format, expected)
        );
        assert!(file.matrix(name, rows + 1, columns).is_err());
    }
    assert_eq!(file.vector("vector", 3).unwrap(), [1.0, 2.0, 4.0]);
    assert!(file.vector("vector", 2).is_err() && file.matrix("vector", 1, 3).is_err());
    let message = file.matrix("i8", 2, 2).err().unwrap().to_string();
    assert!(message.contains("type I8, which is not supported"));
    assert!(file.matrix("absent", 1, 1).is_err() && !file.has_tensor("absent"));
}

#[test]
fn damaged_files_are_refused() {
    let bytes = sample();
    let with_length = |length: u64| [&length.to_le_bytes(), &bytes[8..]].concat();
    for length in [bytes.len() as u64, 1 << 24, 1 << 40, u64::MAX - 7, u64::MAX] {
        check_refused(with_length(length), "cannot have a header of");
    }
    check_refused(with_length(10), "not a safetensors file");
    check_refused(vec![0; 4], "ends within its header");
    check_refused(
        bytes[..bytes.len() - 3].to_vec(),
        "truncated: 3 bytes are missing",
    );
    check_refused(
        [&bytes[..], &[0]].concat(),
        "1 bytes follow the last tensor",
    );
    let header = |entries: &str| with_header(entries, &[0; 16]);
    for entries in [
        r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]}}"#,
        r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}"#,
        r#"{"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}"#,
        r#"{"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}"#,
        r#"{"a": {"dtype": "F32", "shape": [18446744073709551615, 4], "data_offsets": [0, 16]}}"#,
        r#"{"a": {"dtype": "Q4", "shape": [4], "data_offsets": [0, 16]}}"#,
        r#"{"a": {"dtype": "F32", "shape": [4]}}"#,
        "[]",
        "{",
    ] {
        check_refused(header(entries), "not a safetensors file");
    }
    let deep = "[".repeat(100_000);
    check_refused(with_header(&deep, &[]), "not a safetensors file");
}

/// The sum of the header and these tensors is more than a number can hold.
#[test]
fn tensors_larger_than_numbers_are_refused() {
    let piece = (1u64 << 61) - 1;
    let mut entries = serde_json::Map::new();
    for index in 0..8 {
        let offsets = [index * piece, (index + 1) * piece];
        let entry = json!({"dtype": "U8", "shape": [piece], "data_offsets": offsets});
        entries.insert(format!("t{index}"), entry);
    }
    let header = Value::from(entries).to_string();
    check_refused(with_header(&header, &[0; 16]), "the file is truncated");
}

#[test]
fn changed_files_never_panic() {
    let bytes = sample();
    damage::truncations(&bytes, |bytes| {
        assert!(whole_reading::safetensors(bytes).is_err());
    });
    let header = bytes.len() - 40;
    let mut accepted = 0;
    let mut read = |bytes| accepted += u32::from(whole_reading::safetensors(bytes).is_ok());
    damage::changed_bytes(&bytes, header, &mut read);
    damage::changed_numbers(&bytes, header, &mut read);
    damage::random_changes(&bytes, 20_000, &mut read);
    assert!(accepted > 100, "{accepted}");
    let config = llama_config().to_string();
    let index = r#"{"weight_map": {"a": "b.safetensors", "c": "d.safetensors"}}"#;
    for json in [config.as_bytes(), index.as_bytes()] {
        damage::truncations(json, |bytes| whole_reading::model_json(&bytes));
        damage::changed_bytes(json, json.len(), |bytes| whole_reading::model_json(&bytes));
        damage::random_changes(json, 5_000, |bytes| whole_reading::model_json(&bytes));
    }
}

#[test]
fn headers_do_not_allocate() {
    let name = "cases::safetensors_files::headers_do_not_allocate";
    let bytes = sample();
    damage::check_memory(name, 32 << 20, || {
        damage::changed_numbers(&bytes, bytes.len() - 40, |bytes| {
            drop(whole_reading::safetensors(bytes));
        });
    });
}

#[test]
fn models_of_one_and_of_several_files_read_back() {
    let (norm, head) = (f32_bytes(&[1.0, 2.0]), f32_bytes(&[3.0, 4.0]));
    let tensors: [(&str, &str, &[usize], &[u8]); 2] = [
        ("model.norm.weight", "F32", &[2], &norm),
        ("lm_head.weight", "F32", &[1, 2], &head),
    ];
    let (first, second) = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    );
    for files in [
        &[("model.safetensors", &tensors[..])][..],
        &[(first, &tensors[..1]), (second, &tensors[1..])],
    ] {
        let folder = TempDir::new().unwrap();
        write_model(folder.path(), &llama_config(), files);
        let model = SafetensorsModel::open(folder.path()).unwrap();
        assert_eq!(model.config().layers, 32);
        assert_eq!(model.vector("model.norm.weight", 2).unwrap(), [1.0, 2.0]);
        let head = model.unread_matrix("lm_head.weight", 1, 2).unwrap();
        assert_eq!(head.read().unwrap().to_f32(), [3.0, 4.0]);
        assert!(model.has_tensor("lm_head.weight") && !model.has_tensor("lm_head.bias"));
        let message = model.vector("lm_head.bias", 1).unwrap_err().to_string();
        assert!(message.contains("tensor \"lm_head.bias\" is missing"));
        let bytes: usize = files.iter().map(|(_, tensors)| build(tensors).len()).sum();
        assert_eq!(model.file_bytes(), bytes as u64);
        assert_eq!(model.files().len(), files.len());
    }
}

#[test]
fn unusable_directories_are_refused() {
    let check = |prepare: &dyn Fn(&Path), expected: &str| {
        let folder = TempDir::new().unwrap();
        prepare(folder.path());
        let message = SafetensorsModel::open(folder.path())
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains(expected), "{message:?}, not {expected:?}");
    };
    let write = |folder: &Path, name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
    };
    let config = llama_config().to_string();
    check(&|_| {}, "could not read");
    check(
        &|folder| write(folder, "config.json", &config),
        "could not read",
    );
    check(
        &|folder| write(folder, "config.json", &" ".repeat(2 << 20)),
        "more than",
    );
    let index = |names: &str| {
        let (config, names) = (config.clone(), names.to_owned());
        move |folder: &Path| {
            write(folder, "config.json", &config);
            let index = format!(r#"{{"weight_map": {{{names}}}}}"#);
            write(folder, "model.safetensors.index.json", &index);
        }
    };
    check(&index(""), "it names 0 files");
    check(&index(r#""a": "absent.safetensors""#), "could not read");
    check(&index(r#""a": 1"#), "invalid type");
    // The index names a file that lacks the tensor.
    let folder = TempDir::new().unwrap();
    index(r#""a": "b.safetensors""#)(folder.path());
    std::fs::write(folder.path().join("b.safetensors"), sample()).unwrap();
    let model = SafetensorsModel::open(folder.path()).unwrap();
    assert!(!model.has_tensor("a") && model.unread_matrix("a", 1, 1).is_err());
    assert!(!model.has_tensor("f32"));
}

#[test]
fn an_index_names_plain_files_only() {
    for name in [
        "../a.safetensors",
        "/a.safetensors",
        "a/b.safetensors",
        "a\\\\b.safetensors",
        ".safetensors",
        "..safetensors",
        "a.bin",
        "a\\u0000.safetensors",
        "",
    ] {
        let json = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        let reason = WeightIndex::parse(json.as_bytes()).err().unwrap();
        assert!(reason.contains("plain name"), "{name:?}: {reason}");
    }
}

fn config_with(key: &str, value: Value) -> Result<LlamaConfig, String> {
    let mut config = llama_config();
    match value {
        Value::String(ref text) if text == "absent" => {
            config.as_object_mut().unwrap().remove(key);
        }
        value => config[key] = value,
    }
    LlamaConfig::parse(config.to_string().as_bytes())
}

#[test]
fn configurations_read_back() {
    let config = LlamaConfig::parse(llama_config().to_string().as_bytes()).unwrap();
    let expected = LlamaConfig {
        layers: 32,
        hidden: 4096,
        feed_forward: 14_336,
        heads: 32,
        kv_heads: 8,
        head_size: 128,
        vocabulary: 128_256,
        tokens_max: 131_072,
        norm_epsilon: 1e-5,
        rope_base: 500_000.0,
        rope_scaling: RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_tokens_max: 8192,
        },
        tied_embeddings: false,
        attention_bias: false,
        feed_forward_bias: false,
    };
    assert_eq!(config, expected);
    let with = |key: &str, value: Value| config_with(key, value).unwrap();
    assert_eq!(with("num_key_value_heads", json!("absent")).kv_heads, 32);
    assert_eq!(with("head_dim", json!(64)).head_size, 64);
    assert_eq!(with("head_dim", Value::Null).head_size, 128);
    assert_eq!(with("rope_theta", json!("absent")).rope_base, 10_000.0);
    assert_eq!(with("rms_norm_eps", json!("absent")).norm_epsilon, 1e-6);
    assert!(with("tie_word_embeddings", json!(true)).tied_embeddings);
    assert!(with("attention_bias", json!(true)).attention_bias);
    assert!(with("mlp_bias", json!(true)).feed_forward_bias);
    for (scaling, expected) in [
        (Value::Null, RopeScaling::Unscaled),
        (json!({"rope_type": "default"}), RopeScaling::Unscaled),
        (
            json!({"type": "linear", "factor": 2.0}),
            RopeScaling::Linear { factor: 2.0 },
        ),
    ] {
        assert_eq!(with("rope_scaling", scaling).rope_scaling, expected);
    }
    // The newer spelling.
    let mut newer = llama_config();
    let mut rope = newer["rope_scaling"].take();
    rope["rope_theta"] = newer["rope_theta"].take();
    newer["rope_parameters"] = rope;
    assert_eq!(
        LlamaConfig::parse(newer.to_string().as_bytes()).unwrap(),
        expected
    );
}

#[test]
fn unusable_configurations_are_refused() {
    let check = |key: &str, value: Value, expected: &str| {
        let reason = config_with(key, value.clone()).unwrap_err();
        assert!(reason.contains(expected), "{key} {value}: {reason}");
    };
    check(
        "architectures",
        json!(["MistralForCausalLM"]),
        "only \"LlamaForCausalLM\"",
    );
    check("architectures", json!([]), "only \"LlamaForCausalLM\"");
    check("hidden_act", json!("gelu"), "only \"silu\"");
    check("quantization_config", json!({"bits": 4}), "quantised");
    check(
        "partial_rotary_factor",
        json!(0.5),
        "\"partial_rotary_factor\"",
    );
    for key in [
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "vocab_size",
        "head_dim",
    ] {
        check(key, json!(0), &format!("\"{key}\" is 0, expected"));
        check(
            key,
            json!(1u64 << 40),
            &format!("\"{key}\" is 1099511627776, expected"),
        );
        check(key, json!(-1), "invalid value");
        check(key, json!("1"), "invalid type");
    }
    for key in ["rms_norm_eps", "rope_theta"] {
        for number in [0.0, -1.0, 1e300] {
            check(key, json!(number), &format!("\"{key}\" is"));
        }
    }
    check("num_attention_heads", json!(31), "does not divide");
    check("num_key_value_heads", json!(7), "cannot be shared out");
    check("head_dim", json!(63), "cannot be shared out");
    let mut scaling = llama_config()["rope_scaling"].take();
    for (key, value, expected) in [
        (
            "rope_type",
            json!("yarn"),
            "rope scaling \"yarn\" is not supported",
        ),
        ("rope_type", Value::Null, "no \"rope_type\""),
        ("factor", Value::Null, "\"factor\" is missing"),
        ("factor", json!(0.0), "\"factor\" is 0"),
        ("high_freq_factor", json!(1.0), "not above"),
        (
            "original_max_position_embeddings",
            json!(0),
            "is 0, expected",
        ),
    ] {
        let right = scaling[key].take();
        scaling[key] = value;
        check("rope_scaling", scaling.clone(), expected);
        scaling[key] = right;
    }
    check("rope_parameters", scaling, "has both");
}
