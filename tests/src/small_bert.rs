//! A second embedding model of other dimensions, and a cross-encoder: BERT with the vocabulary of all-MiniLM-L6-v2, one
//! layer, and random weights. Averages of random word vectors still say which texts share words, so that it can be
//! searched; what the cross-encoder says means nothing, and is the same each time.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::config;
use crate::process;

pub const DIMENSIONS: usize = 96;
const VOCABULARY: usize = 30_522;
const POSITIONS: usize = 512;

/// Writes the embedding model into a new directory.
pub fn write() -> PathBuf {
    let dir = write_bert(tensors());
    for name in ["modules.json", "sentence_bert_config.json"] {
        copy(&dir, name);
    }
    let pooling = dir.join("1_Pooling");
    fs::create_dir(&pooling).expect("create a directory");
    process::give_to_run_user(&pooling, 0o700);
    write_json(
        &pooling.join("config.json"),
        &json!({"word_embedding_dimension": DIMENSIONS, "pooling_mode_mean_tokens": true,
            "pooling_mode_cls_token": false, "pooling_mode_max_tokens": false,
            "pooling_mode_mean_sqrt_len_tokens": false}),
    );
    dir
}

/// Writes one that takes so many tokens at most, and wants to know a question from a passage.
pub fn write_narrow(tokens_max: u32) -> PathBuf {
    let dir = write();
    write_json(
        &dir.join("sentence_bert_config.json"),
        &json!({"max_seq_length": tokens_max, "do_lower_case": false}),
    );
    write_json(
        &dir.join("config_sentence_transformers.json"),
        &json!({"prompts": {"query": "query: ", "document": "passage: "}}),
    );
    dir
}

/// Writes the cross-encoder into a new directory.
pub fn write_cross_encoder() -> PathBuf {
    let in_model = tensors().into_iter();
    let mut all: Vec<Tensor> = in_model
        .map(|(name, shape, center, spread)| (format!("bert.{name}"), shape, center, spread))
        .collect();
    for (name, rows) in [("bert.pooler.dense", DIMENSIONS), ("classifier", 1)] {
        all.push((format!("{name}.weight"), vec![rows, DIMENSIONS], 0.0, 1.0));
        all.push((format!("{name}.bias"), vec![rows], 0.0, 0.1));
    }
    write_bert(all)
}

/// What every model of this shape has.
fn write_bert(tensors: Vec<Tensor>) -> PathBuf {
    let dir = process::new_dir("m");
    copy(&dir, "tokenizer.json");
    write_json(
        &dir.join("config.json"),
        &json!({"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
            "hidden_size": DIMENSIONS, "num_hidden_layers": 1, "num_attention_heads": 3,
            "intermediate_size": DIMENSIONS * 2, "vocab_size": VOCABULARY, "type_vocab_size": 2,
            "max_position_embeddings": POSITIONS, "pad_token_id": 0, "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02, "position_embedding_type": "absolute", "use_cache": true}),
    );
    let weights = dir.join("model.safetensors");
    fs::write(&weights, safetensors(tensors)).expect("write the weights");
    process::give_to_run_user(&weights, 0o600);
    dir
}

fn copy(dir: &Path, name: &str) {
    let text = fs::read_to_string(config().embedding_model.join(name)).expect("read the model");
    process::write_file(&dir.join(name), &text, 0o600);
}

fn write_json(path: &Path, value: &Value) {
    process::write_file(path, &value.to_string(), 0o600);
}

/// Length of the header, header, values (huggingface/safetensors, "Format").
fn safetensors(tensors: Vec<Tensor>) -> Vec<u8> {
    let mut header = Map::new();
    let mut values: Vec<u8> = Vec::new();
    let mut state = 1_u64;
    for (name, shape, center, spread) in tensors {
        let start = values.len();
        for _ in 0..shape.iter().product() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            values.extend((center + spread * random).to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, values.len()]});
        header.insert(name, entry);
    }
    let header = Value::from(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &values].concat()
}

/// Name, shape, and the middle and width of the values.
type Tensor = (String, Vec<usize>, f32, f32);

fn tensors() -> Vec<Tensor> {
    let embedding = |name: &str| format!("embeddings.{name}_embeddings.weight");
    let mut tensors = vec![
        (embedding("word"), vec![VOCABULARY, DIMENSIONS], 0.0, 1.0),
        (
            embedding("position"),
            vec![POSITIONS, DIMENSIONS],
            0.0,
            0.05,
        ),
        (embedding("token_type"), vec![2, DIMENSIONS], 0.0, 0.05),
    ];
    let layer = |part: &str| format!("encoder.layer.0.{part}");
    for (part, rows, columns) in [
        ("attention.self.query", DIMENSIONS, DIMENSIONS),
        ("attention.self.key", DIMENSIONS, DIMENSIONS),
        ("attention.self.value", DIMENSIONS, DIMENSIONS),
        ("attention.output.dense", DIMENSIONS, DIMENSIONS),
        ("intermediate.dense", DIMENSIONS * 2, DIMENSIONS),
        ("output.dense", DIMENSIONS, DIMENSIONS * 2),
    ] {
        tensors.push((
            format!("{}.weight", layer(part)),
            vec![rows, columns],
            0.0,
            0.1,
        ));
        tensors.push((format!("{}.bias", layer(part)), vec![rows], 0.0, 0.1));
    }
    for norm in [
        "embeddings.LayerNorm".to_owned(),
        layer("attention.output.LayerNorm"),
        layer("output.LayerNorm"),
    ] {
        tensors.push((format!("{norm}.weight"), vec![DIMENSIONS], 1.0, 0.0));
        tensors.push((format!("{norm}.bias"), vec![DIMENSIONS], 0.0, 0.0));
    }
    tensors
}
