//! The tiny Llama of `tests/fixtures/peft`, its adapters, and what Hugging Face computes with them.

use std::path::{Path, PathBuf};

use inference_sidecar::models::{Adapter, AdapterBase, Format, PeftAdapter};
use proto::model::{AdapterHeader, ModelChoice};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

/// The folders of the adapters: everything with one rank; rank-stabilised with ranks and scales of
/// their own per module; attention alone.
pub const ADAPTERS: [&str; 3] = ["all-linear", "stabilised", "attention"];

/// Sizes of the base, as its `config.json` says.
pub const BASE: AdapterBase = AdapterBase {
    layers: 2,
    hidden: 64,
    feed_forward: 96,
    heads: 4,
    kv_heads: 2,
    head_size: 16,
    permuted_heads: false,
};
pub const VOCABULARY: usize = 256;
pub const TOKENS_MAX: usize = 256;
pub const NORM_EPSILON: f32 = 1e-5;
pub const ROPE_THETA: f32 = 10_000.0;

/// The order of the rows of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadOrder {
    /// Hugging Face: the halves of a head rotate against each other.
    Halves,
    /// GGUF: neighbours do.
    Neighbours,
}

/// Weights under their GGUF name; a vector has one row.
pub struct NamedWeights {
    pub name: String,
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

/// Tokens and the logits of every position, row by row.
pub struct Reference {
    pub tokens: Vec<u32>,
    pub logits: Vec<f32>,
}

/// The Hugging Face directory of the base, without a tokenizer.
pub fn base_directory() -> PathBuf {
    directory().join("base")
}

/// `adapter_config.json` and `adapter_model.safetensors`.
pub fn adapter_files(adapter: &str) -> (String, Vec<u8>) {
    let folder = directory().join(adapter);
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let content = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    (config, content)
}

/// The adapter for a base with this order of rows.
pub fn adapter(adapter: &str, order: HeadOrder) -> Adapter {
    let (config, content) = adapter_files(adapter);
    let base = AdapterBase {
        permuted_heads: order == HeadOrder::Neighbours,
        ..BASE
    };
    PeftAdapter::parse(&config, content)
        .unwrap()
        .fit(&base)
        .unwrap()
}

/// The header with which a client sends `content`.
pub fn header(name: &str, generation: u64, config_json: String, content: &[u8]) -> AdapterHeader {
    let digest = Sha256::digest(content);
    AdapterHeader {
        name: name.to_owned(),
        generation,
        model: ModelChoice::Default,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        content_bytes: content.len() as u64,
        config_json,
    }
}

/// What the merged model computes; "base" is the model without an adapter.
pub fn references(adapter: &str) -> Vec<Reference> {
    let bytes = std::fs::read(directory().join("logits.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let reference = |number| {
        let tokens = file.tensor(&format!("tokens.{number}")).ok()?;
        let tokens = tokens
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|id| u32::from_le_bytes(*id));
        let (shape, logits) = read(&file, &format!("{adapter}.{number}"));
        assert_eq!(shape, [tokens.len(), VOCABULARY]);
        assert!(tokens.len() <= TOKENS_MAX);
        Some(Reference {
            tokens: tokens.collect(),
            logits,
        })
    };
    let references: Vec<_> = (0..).map_while(reference).collect();
    assert!(!references.is_empty());
    references
}

/// The base's weights as a GGUF file names them; with [`HeadOrder::Neighbours`] as it orders them.
pub fn gguf_weights(order: HeadOrder) -> Vec<NamedWeights> {
    let bytes = std::fs::read(base_directory().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let convert = |name: &str| {
        let (shape, mut values) = read(&file, name);
        let columns = *shape.last().unwrap();
        let heads = match name {
            _ if order == HeadOrder::Halves => None,
            _ if name.ends_with("q_proj.weight") => Some(BASE.heads),
            _ if name.ends_with("k_proj.weight") => Some(BASE.kv_heads),
            _ => None,
        };
        if let Some(heads) = heads {
            values = permute(&values, heads, columns);
        }
        NamedWeights {
            name: gguf_name(name),
            rows: values.len() / columns,
            columns,
            values,
        }
    };
    let mut names = file.names();
    names.sort_unstable();
    names.into_iter().map(convert).collect()
}

/// `W.reshape(heads, 2, d/2, columns).swapaxes(1, 2)`, as llama.cpp's converter does.
fn permute(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let half = values.len() / columns / heads / 2;
    let row = |head: usize, side: usize, pair: usize| {
        &values[((head * 2 + side) * half + pair) * columns..][..columns]
    };
    let mut permuted = Vec::new();
    for head in 0..heads {
        for pair in 0..half {
            for side in 0..2 {
                permuted.extend_from_slice(row(head, side, pair));
            }
        }
    }
    permuted
}

fn gguf_name(name: &str) -> String {
    let short = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let rename = |name: String, (long, short): &(&str, &str)| name.replace(long, short);
    short.iter().fold(name.to_owned(), rename)
}

fn read(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap();
    let format = match tensor.dtype() {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        other => panic!("{name} has the format {other:?}"),
    };
    let mut values = vec![0.0; tensor.shape().iter().product()];
    format.unpack(tensor.data(), &mut values);
    (tensor.shape().to_vec(), values)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft")
}
