//! Goal: an adapter means what PEFT means by it, or is refused with a reason that names the cause.

use serde_json::{Value, json};

use super::*;

const BASE: AdapterBase = AdapterBase {
    layers: 2,
    hidden: 8,
    feed_forward: 6,
    heads: 2,
    kv_heads: 1,
    head_size: 4,
    permuted_heads: false,
};

/// A tensor of a file in the making.
struct Entry {
    name: String,
    format: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn entry(name: &str, shape: &[usize], values: &[f32]) -> Entry {
    Entry {
        name: format!("base_model.model.{name}"),
        format: "F32",
        shape: shape.to_vec(),
        bytes: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

/// The factors of the module at `path`; B counts its rows.
fn factors(path: &str, rank: usize, outputs: usize, inputs: usize) -> Vec<Entry> {
    let rows: Vec<f32> = (0..outputs * rank).map(|i| (i / rank) as f32).collect();
    vec![
        entry(
            &format!("{path}.lora_A.weight"),
            &[rank, inputs],
            &vec![0.5; rank * inputs],
        ),
        entry(&format!("{path}.lora_B.weight"), &[outputs, rank], &rows),
    ]
}

fn queries(rank: usize) -> Vec<Entry> {
    let paths = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    ];
    paths
        .iter()
        .flat_map(|path| factors(path, rank, 8, 8))
        .collect()
}

fn file(entries: &[Entry]) -> Vec<u8> {
    let (mut fields, mut data) = (Vec::new(), Vec::new());
    for entry in entries {
        let start = data.len();
        data.extend(&entry.bytes);
        let (name, format, shape) = (&entry.name, entry.format, &entry.shape);
        let offsets = [start, data.len()];
        fields.push(format!(
            "\"{name}\":{{\"dtype\":\"{format}\",\"shape\":{shape:?},\"data_offsets\":{offsets:?}}}"
        ));
    }
    let header = format!("{{{}}}", fields.join(","));
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat()
}

/// The configuration of rank 2 and scale 4 for the queries, with `changes`.
fn config(changes: Value) -> String {
    let mut config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 8, "bias": "none",
        "target_modules": ["q_proj"], "inference_mode": true, "lora_dropout": 0.1,
        "base_model_name_or_path": "some/model", "megatron_core": "megatron.core",
        "loftq_config": {}, "init_lora_weights": true, "fan_in_fan_out": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    config.to_string()
}

fn fit(config: &str, content: Vec<u8>, base: &AdapterBase) -> Result<Adapter, String> {
    let peft = PeftAdapter::parse(config, content)?;
    peft.check(base)?;
    let adapter = peft.fit(base).unwrap();
    assert_eq!(adapter.bytes(), peft.packed_bytes());
    assert_eq!(adapter.rank(), peft.rank());
    Ok(adapter)
}

fn check_refused(changes: Value, entries: &[Entry], expected: &str) {
    let refusal = fit(&config(changes), file(entries), &BASE).err();
    let reason = refusal.unwrap_or_else(|| panic!("accepted instead of {expected:?}"));
    assert!(
        reason.contains(expected),
        "expected {expected:?} in {reason:?}"
    );
}

fn check_scale(changes: Value, rank: usize, expected: [f32; 2]) {
    let adapter = fit(&config(changes), file(&queries(rank)), &BASE).unwrap();
    let scale = |layer| adapter.change(layer, Module::Query).unwrap().scale;
    assert_eq!([scale(0), scale(1)], expected);
}

#[test]
fn options_that_are_not_supported() {
    let plain_refusals = [
        ("alora_invocation_tokens", json!([1, 2])),
        ("corda_config", json!({"cache_file": "x"})),
        ("eva_config", json!({"rho": 2.0})),
        ("fan_in_fan_out", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("layers_pattern", json!("layers")),
        ("layers_to_transform", json!([0])),
        ("layers_to_transform", json!(0)),
        ("loftq_config", json!({"loftq_bits": 4})),
        ("lora_bias", json!(true)),
        ("megatron_config", json!({"a": 1})),
        ("modules_to_save", json!(["lm_head"])),
        ("target_parameters", json!(["experts"])),
        ("trainable_token_indices", json!([7])),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("of_a_later_version", json!(0.5)),
    ];
    for (name, value) in plain_refusals {
        let expected = format!("option \"{name}\" is not supported");
        check_refused(json!({ name: value }), &queries(2), &expected);
        // Off, it is no reason to refuse.
        for off in [json!(null), json!(false), json!([]), json!({}), json!("")] {
            fit(&config(json!({ name: off })), file(&queries(2)), &BASE).unwrap();
        }
    }
    for (name, value) in [
        ("peft_type", json!("LOHA")),
        ("task_type", json!("SEQ_CLS")),
        ("bias", json!("all")),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("corda")),
    ] {
        check_refused(json!({ name: value }), &queries(2), &format!("\"{name}\""));
    }
}

#[test]
fn configurations_that_are_wrong() {
    for (changes, expected) in [
        (json!({"r": null}), "not usable"),
        (json!({"r": -2}), "not usable"),
        (json!({"r": 3}), "has rank 2, the configuration says 3"),
        (json!({"r": 0}), "has rank 2, the configuration says 0"),
        (
            json!({"rank_pattern": {"q_proj": 2.5}}),
            "the configuration says 2.5",
        ),
        (json!({"lora_alpha": "8"}), "not usable"),
        (
            json!({"lora_alpha": 1e300}),
            "scale of \"model.layers.0.self_attn.q_proj\"",
        ),
        (
            json!({"target_modules": null}),
            "\"target_modules\" is missing",
        ),
        (
            json!({"target_modules": "("}),
            "\"(\" of \"target_modules\"",
        ),
        (json!({"target_modules": "(?=a)"}), "of \"target_modules\""),
        (
            json!({"target_modules": ["q_proj", "lm_head"]}),
            "covers \"lm_head\"",
        ),
        (json!({"target_modules": ".*"}), "covers \"lm_head\""),
        (
            json!({"target_modules": ["q_proj", "embed_tokens"]}),
            "\"model.embed_tokens\"",
        ),
        (
            json!({"target_modules": ["v_proj"]}),
            "q_proj.lora_A.weight\" is not covered",
        ),
        (json!({"target_modules": ["proj"]}), "is not covered"),
        (json!({"target_modules": "q_proj"}), "is not covered"),
        (json!({"exclude_modules": ["q_proj"]}), "is not covered"),
        (
            json!({"exclude_modules": ".*1.self_attn.q_proj"}),
            "layers.1.self_attn.q_proj",
        ),
        (json!({"rank_pattern": {"a)|(b": 2}}), "of \"rank_pattern\""),
        (
            json!({"alpha_pattern": {r"\w{9999}": 2}}),
            "of \"alpha_pattern\"",
        ),
        (
            json!({"target_modules": ["q_proj", "v_proj"]}),
            "self_attn.v_proj\", which is not in the file",
        ),
        (
            json!({"target_modules": "all-linear"}),
            "which is not in the file",
        ),
    ] {
        check_refused(changes, &queries(2), expected);
    }
    let patterns: serde_json::Map<_, _> = (0..1025).map(|i| (i.to_string(), json!(1))).collect();
    check_refused(
        json!({"rank_pattern": patterns}),
        &queries(2),
        "more than 1024 entries",
    );
    for text in ["", "[]", "{", "\"LORA\"", "null", &"[".repeat(60_000)] {
        let refusal = PeftAdapter::parse(text, file(&queries(2))).err();
        assert!(
            refusal.unwrap().contains("adapter_config.json"),
            "{text:.20}"
        );
    }
}

#[test]
fn modules_and_scales_as_in_peft() {
    check_scale(json!({}), 2, [4.0; 2]);
    check_scale(json!({"lora_alpha": 3.5}), 2, [1.75; 2]);
    check_scale(json!({"use_rslora": true}), 2, [8.0 / 2f32.sqrt(); 2]);
    check_scale(json!({"rank_pattern": {"q_proj": 4}}), 4, [2.0; 2]);
    check_scale(
        json!({"rank_pattern": {"k_proj": 4, "roj": 4}}),
        2,
        [4.0; 2],
    );
    check_scale(
        json!({"alpha_pattern": {r"layers\.1\..*": 6}}),
        2,
        [4.0, 3.0],
    );
    check_scale(
        json!({"alpha_pattern": {"model.layers.0.self_attn.q_proj": 6}}),
        2,
        [3.0, 4.0],
    );
    let both = json!({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"1.self_attn.q_proj": 6}, "use_rslora": true});
    check_scale(both, 4, [4.0, 3.0]);
    for targets in [
        json!(["self_attn.q_proj"]),
        json!([
            "model.layers.0.self_attn.q_proj",
            "model.layers.1.self_attn.q_proj"
        ]),
        json!(["q_proj", "of_another_model"]),
        json!(r".*\.q_proj"),
        json!(r"model\.layers\.\d\.self_attn\.(q)_proj"),
    ] {
        check_scale(
            json!({"target_modules": targets, "exclude_modules": ["k_proj"]}),
            2,
            [4.0; 2],
        );
    }
    // The first pattern of the file counts, wherever it stands in the alphabet.
    let ordered =
        config(json!({})).replacen('{', r#"{"alpha_pattern": {"q_proj": 6, ".*": 2},"#, 1);
    let adapter = fit(&ordered, file(&queries(2)), &BASE).unwrap();
    assert_eq!(adapter.change(1, Module::Query).unwrap().scale, 3.0);
    assert!(adapter.change(1, Module::Key).is_none());
    assert!(adapter.change(2, Module::Query).is_none());
    // Rows are filled up to sixteen.
    assert_eq!(
        (adapter.rank(), adapter.bytes()),
        (2, 2 * 4 * (16 * 8 + 16 * 2))
    );
}

#[test]
fn tensors_that_are_refused() {
    let check = |change: &dyn Fn(&mut Vec<Entry>), expected: &str| {
        let mut entries = queries(2);
        change(&mut entries);
        check_refused(json!({}), &entries, expected);
    };
    for (name, reason) in [
        ("model.embed_tokens.lora_embedding_A", "embeddings"),
        ("model.embed_tokens.weight", "embeddings"),
        ("lm_head.lora_A.weight", "output layer"),
        (
            "model.layers.0.self_attn.q_proj.lora_magnitude_vector",
            "DoRA",
        ),
        ("model.layers.0.self_attn.q_proj.lora_B.bias", "biases"),
        ("model.norm.modules_to_save.weight", "whole trained modules"),
        (
            "model.layers.0.self_attn.q_proj.weight",
            "is not of a LoRA module",
        ),
        (
            "model.layers.0.self_attn.qkv.lora_A.weight",
            "is not of a LoRA module",
        ),
        (
            "model.layers.00.self_attn.q_proj.lora_A.weight",
            "is not of a LoRA module",
        ),
        (
            "model.layers.+0.self_attn.q_proj.lora_A.weight",
            "is not of a LoRA module",
        ),
        (
            "model.layers.99999999999999999999.self_attn.q_proj.lora_A.weight",
            "is not of a LoRA module",
        ),
        (
            "transformer.h.0.attn.lora_A.weight",
            "is not of a LoRA module",
        ),
    ] {
        check(
            &|entries| entries.push(entry(name, &[2, 8], &[0.0; 16])),
            reason,
        );
        check(
            &|entries| entries.push(entry(name, &[2, 8], &[0.0; 16])),
            name,
        );
    }
    check(
        &|entries| entries.truncate(1),
        "lora_A.weight\" has no counterpart",
    );
    check(
        &|entries| drop(entries.remove(0)),
        "lora_B.weight\" has no counterpart",
    );
    check(
        &|entries| entries.truncate(2),
        "layers.1.self_attn.q_proj\", which is not in the file",
    );
    check(&|entries| entries.clear(), "no tensors");
    let twice = "model.layers.0.self_attn.q_proj.lora_A.default.weight";
    check(
        &|entries| entries.push(entry(twice, &[2, 8], &[0.0; 16])),
        "occurs twice",
    );
    let same = "model.layers.0.self_attn.q_proj.lora_A.weight";
    check(
        &|entries| entries.push(entry(same, &[2, 8], &[0.0; 16])),
        "not a safetensors file",
    );
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let change =
            |entries: &mut Vec<Entry>| entries[2].bytes[60..].copy_from_slice(&value.to_le_bytes());
        check(
            &change,
            "layers.1.self_attn.q_proj.lora_A.weight\" has values that are not finite",
        );
    }
    for (format, bytes) in [("I32", 4), ("F64", 8), ("F8_E4M3", 1)] {
        let change = |entries: &mut Vec<Entry>| {
            entries[0].format = format;
            entries[0].bytes = vec![0; 16 * bytes];
        };
        check(&change, &format!("has the format {format}"));
    }
    for (shape, expected) in [
        (vec![16], "is not a matrix"),
        (vec![2, 4, 2], "is not a matrix"),
        (vec![4, 4], "lora_B.weight\" has 2 columns, 4 are needed"),
        (vec![2, 9], "not a safetensors file"),
    ] {
        check(&|entries| entries[0].shape = shape.clone(), expected);
    }
    let empty = |entries: &mut Vec<Entry>| {
        entries[0].shape = vec![0, 8];
        entries[0].bytes.clear();
    };
    check(&empty, "is empty");
}

#[test]
fn bases_that_do_not_fit() {
    let check = |base: AdapterBase, expected: &str| {
        let reason = fit(&config(json!({})), file(&queries(2)), &base)
            .err()
            .unwrap();
        assert!(reason.contains(expected), "{reason}");
    };
    check(
        AdapterBase { layers: 1, ..BASE },
        "layers.1.self_attn.q_proj.lora_A.weight\": the model has 1 layers",
    );
    check(
        AdapterBase { layers: 3, ..BASE },
        "layers.2.self_attn.q_proj\", which is not in the file",
    );
    check(
        AdapterBase { hidden: 16, ..BASE },
        "lora_A.weight\" has 8 columns, 16 are needed",
    );
    check(
        AdapterBase { heads: 4, ..BASE },
        "lora_B.weight\" has 8 rows, 16 are needed",
    );
}

#[test]
fn files_that_are_no_safetensors() {
    let zip = b"PK\x03\x04 and so on".as_slice();
    let long = [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat();
    let whole = file(&queries(2));
    for (content, expected) in [
        (zip, "pickle"),
        (b"\x80\x02}q\x00(X\x01\x00", "pickle"),
        (b"", "not a safetensors file"),
        (b"{}", "not a safetensors file"),
        (&long, "header is too large"),
        (&whole[..whole.len() - 1], "not a safetensors file"),
        (&whole[..100], "not a safetensors file"),
        (&[&whole[..], b"x"].concat(), "not a safetensors file"),
    ] {
        let reason = PeftAdapter::parse(&config(json!({})), content.to_vec())
            .err()
            .unwrap();
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn rows_of_heads_in_the_order_of_the_base() {
    let entries: Vec<Entry> = [
        factors("model.layers.0.self_attn.q_proj", 1, 8, 8),
        factors("model.layers.0.self_attn.k_proj", 1, 4, 8),
        factors("model.layers.0.self_attn.v_proj", 1, 4, 8),
    ]
    .into_iter()
    .flatten()
    .collect();
    let config = config(json!({"r": 1, "target_modules": ["q_proj", "k_proj", "v_proj"]}));
    let rows = |permuted_heads, module| {
        let base = AdapterBase {
            layers: 1,
            permuted_heads,
            ..BASE
        };
        let adapter = fit(&config, file(&entries), &base).unwrap();
        adapter.change(0, module).unwrap().b.to_f32()
    };
    assert_eq!(rows(false, Module::Query), [0., 1., 2., 3., 4., 5., 6., 7.]);
    assert_eq!(rows(true, Module::Query), [0., 2., 1., 3., 4., 6., 5., 7.]);
    assert_eq!(rows(true, Module::Key), [0., 2., 1., 3.]);
    assert_eq!(rows(true, Module::Value), [0., 1., 2., 3.]);
}

#[test]
fn every_format() {
    let value = 0.15625f32;
    let (f16, bf16) = (half::f16::from_f32(value), half::bf16::from_f32(value));
    for (format, bytes) in [
        ("F32", value.to_le_bytes().to_vec()),
        ("F16", f16.to_le_bytes().to_vec()),
        ("BF16", bf16.to_le_bytes().to_vec()),
    ] {
        let mut entries = queries(2);
        for entry in &mut entries {
            entry.format = format;
            entry.bytes = bytes.repeat(16);
        }
        let adapter = fit(&config(json!({})), file(&entries), &BASE).unwrap();
        assert_eq!(
            adapter.change(1, Module::Query).unwrap().b.to_f32(),
            [value; 16]
        );
    }
}
