//! A tiny random model in the shape of Llama 3.1, built here: grouped-query attention, rope factors,
//! an untied head, a context of 131,072 tokens. `reference/tiny_llama.py` builds the same files, byte
//! for byte, with the `gguf` package.

use std::collections::HashSet;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use inference_sidecar::models::Format;

use super::gguf_builder::{GgufBuilder, TensorEntry};

pub const LAYERS: usize = 2;
pub const HIDDEN: usize = 256;
pub const FEED_FORWARD: usize = 512;
pub const HEADS: usize = 8;
pub const KV_HEADS: usize = 2;
pub const HEAD_SIZE: usize = 32;
pub const CONTEXT: u32 = 131_072;
pub const NORM_EPSILON: f32 = 1e-5;
pub const ROPE_BASE: f32 = 500_000.0;
const SPREAD: f32 = 0.2;

/// Two-letter words, so that the merges are not empty.
const MERGES: [&str; 8] = ["Ġ t", "h e", "i n", "Ġt he", "e r", "o n", "Ġ a", "r e"];
const CONTROL: [&str; 5] = [
    "begin_of_text",
    "end_of_text",
    "start_header_id",
    "end_header_id",
    "eot_id",
];
const RESERVED_CONTROL: usize = 19;

/// A tensor as it lies in a GGUF file.
pub struct Tensor {
    pub name: String,
    /// Rows and columns; one entry for a vector.
    pub shape: Vec<usize>,
    pub format: Format,
    pub bytes: Vec<u8>,
}

/// Entries of the vocabulary that are no control tokens; they come first.
pub fn normal_tokens() -> usize {
    256 + MERGES.len()
}

pub fn vocabulary_size() -> usize {
    normal_tokens() + CONTROL.len() + RESERVED_CONTROL
}

/// `count` random tokens, never control tokens.
pub fn prompt(stream: u64, count: usize) -> Vec<u32> {
    let token = |number: u64| (number % normal_tokens() as u64) as u32;
    splitmix64(stream).take(count).map(token).collect()
}

/// Writes the file with matrices of one format.
pub fn write(folder: &Path, format: Format) -> PathBuf {
    write_tensors(folder, &tensors(format))
}

/// Writes a file of these tensors, which may lack some.
pub fn write_tensors(folder: &Path, tensors: &[Tensor]) -> PathBuf {
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, gguf(tensors)).unwrap();
    path
}

/// Writes a file of any size that takes no room on disk: all weights are zero.
pub fn write_zeros(folder: &Path, format: Format, layers: usize, feed_forward: usize) -> PathBuf {
    let mut shapes = shapes(layers, feed_forward);
    // Frequencies are divided by these.
    shapes.retain(|(name, _)| name != "rope_freqs.weight");
    let mut end = 0;
    let place = |(name, shape): (String, Vec<usize>)| {
        let format = if shape.len() == 1 {
            Format::F32
        } else {
            format
        };
        let (columns, rows) = shape.split_last().unwrap();
        let row_bytes = format.row_bytes(*columns).unwrap();
        let offset = end;
        end += (row_bytes * rows.iter().product::<usize>()).next_multiple_of(32) as u64;
        TensorEntry {
            name,
            dimensions: shape.iter().rev().map(|&d| d as u64).collect(),
            ggml_type: ggml_type(format),
            offset: Some(offset),
            bytes: Vec::new(),
        }
    };
    let tensors = shapes.into_iter().map(place).collect();
    let template = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
    let header = builder(layers, feed_forward, tensors)
        .text("tokenizer.chat_template", template)
        .header();
    let path = folder.join("zeros.gguf");
    std::fs::write(&path, &header).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let start = header.len().next_multiple_of(32) as u64;
    file.set_len(start + end).unwrap();
    path
}

/// All tensors in the order of the file.
pub fn tensors(format: Format) -> Vec<Tensor> {
    let shapes = shapes(LAYERS, FEED_FORWARD).into_iter().enumerate();
    shapes
        .map(|(index, (name, shape))| {
            let vector = shape.len() == 1;
            let bytes = match (name.as_str(), vector) {
                ("rope_freqs.weight", _) => rope_factors().iter().flat_map(f32_bytes).collect(),
                (_, true) => norm(index as u64, shape[0]),
                (_, false) => matrix(index as u64, format, shape[0] * shape[1]),
            };
            let format = if vector { Format::F32 } else { format };
            Tensor {
                name,
                shape,
                format,
                bytes,
            }
        })
        .collect()
}

/// What divides the frequencies in Llama 3.1: factor 8, low 1, high 4, original context 8192.
pub fn rope_factors() -> Vec<f32> {
    let factor = |pair: usize| {
        let wave = TAU * f64::from(ROPE_BASE).powf(2.0 * pair as f64 / HEAD_SIZE as f64);
        let smooth = ((8192.0 / wave - 1.0) / 3.0).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / 8.0 + smooth)) as f32
    };
    (0..HEAD_SIZE / 2).map(factor).collect()
}

fn shapes(layers: usize, feed_forward: usize) -> Vec<(String, Vec<usize>)> {
    let (q, kv) = (HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE);
    let layer_shapes = [
        ("attn_norm", vec![HIDDEN]),
        ("attn_q", vec![q, HIDDEN]),
        ("attn_k", vec![kv, HIDDEN]),
        ("attn_v", vec![kv, HIDDEN]),
        ("attn_output", vec![HIDDEN, q]),
        ("ffn_norm", vec![HIDDEN]),
        ("ffn_gate", vec![feed_forward, HIDDEN]),
        ("ffn_up", vec![feed_forward, HIDDEN]),
        ("ffn_down", vec![HIDDEN, feed_forward]),
    ];
    let embedding = vec![vocabulary_size(), HIDDEN];
    let mut shapes = vec![
        ("rope_freqs.weight".to_owned(), vec![HEAD_SIZE / 2]),
        ("token_embd.weight".to_owned(), embedding.clone()),
    ];
    for layer in 0..layers {
        let name = |name| format!("blk.{layer}.{name}.weight");
        shapes.extend(layer_shapes.iter().map(|(n, s)| (name(n), s.clone())));
    }
    shapes.push(("output_norm.weight".to_owned(), vec![HIDDEN]));
    shapes.push(("output.weight".to_owned(), embedding));
    shapes
}

/// Vigna's generator splitmix64, seeded with 0, from its number `stream << 32` on.
fn splitmix64(stream: u64) -> impl Iterator<Item = u64> {
    ((stream << 32) + 1..).map(|n| {
        let z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Values in [-1, 1).
fn uniform(stream: u64) -> impl Iterator<Item = f32> {
    let unit = 2f32.powi(-23);
    splitmix64(stream).map(move |number| (number >> 40) as f32 * unit - 1.0)
}

fn norm(stream: u64, count: usize) -> Vec<u8> {
    let values = uniform(stream).take(count).map(|value| 1.0 + 0.5 * value);
    values.flat_map(|value| f32_bytes(&value)).collect()
}

fn matrix(stream: u64, format: Format, count: usize) -> Vec<u8> {
    let values = uniform(stream).take(count).map(|value| SPREAD * value);
    match format {
        Format::F32 => values.flat_map(|value| f32_bytes(&value)).collect(),
        Format::F16 => values
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect(),
        Format::Bf16 => values
            .flat_map(|value| bf16::from_f32(value).to_le_bytes())
            .collect(),
        _ => blocks(stream, format, count),
    }
}

/// Random bytes, then scales that make the weights as large as those of the other formats.
fn blocks(stream: u64, format: Format, count: usize) -> Vec<u8> {
    let (scale_at, unit, second) = match format {
        Format::Q4_0 => (0, 9.4e-5, None),
        Format::Q4_1 => (0, 9.4e-5, Some((2, -7.5))),
        Format::Q5_0 => (0, 4.7e-5, None),
        Format::Q5_1 => (0, 4.7e-5, Some((2, -15.5))),
        Format::Q8_0 => (0, 5.8e-6, None),
        Format::Q4K => (0, 1.7e-6, Some((2, 7.5))),
        Format::Q5K => (0, 7.9e-7, Some((2, 15.5))),
        Format::Q6K => (208, 3.1e-7, None),
        Format::F32 | Format::F16 | Format::Bf16 => unreachable!("no block format"),
    };
    let total = format.row_bytes(count).unwrap();
    let mut bytes: Vec<u8> = splitmix64(stream)
        .take(total.div_ceil(8))
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(total);
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let scale = f16::from_f32(unit * (128.0 + f32::from(block[scale_at])));
        block[scale_at..scale_at + 2].copy_from_slice(&scale.to_le_bytes());
        if let Some((at, factor)) = second {
            let other = f16::from_f32(scale.to_f32() * factor);
            block[at..at + 2].copy_from_slice(&other.to_le_bytes());
        }
    }
    bytes
}

fn f32_bytes(value: &f32) -> [u8; 4] {
    value.to_le_bytes()
}

/// The bytes in GPT-2's spelling, a few words, and control tokens as Llama 3 has them.
fn vocabulary() -> Vec<String> {
    let is_visible = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next_hidden = 256u32;
    let spelling = |byte: u8| {
        let code = if is_visible(&byte) {
            u32::from(byte)
        } else {
            next_hidden += 1;
            next_hidden - 1
        };
        char::from_u32(code).unwrap().to_string()
    };
    let mut tokens: Vec<String> = (0..=255).map(spelling).collect();
    tokens.extend(MERGES.map(|merge| merge.replace(' ', "")));
    tokens.extend(CONTROL.map(|name| format!("<|{name}|>")));
    let reserved = |i| format!("<|reserved_special_token_{i}|>");
    tokens.extend((0..RESERVED_CONTROL).map(reserved));
    assert_eq!(
        tokens.iter().collect::<HashSet<_>>().len(),
        vocabulary_size()
    );
    tokens
}

/// The file, in the order in which the `gguf` package writes it.
fn gguf(tensors: &[Tensor]) -> Vec<u8> {
    let tensors = tensors.iter().map(entry).collect();
    builder(LAYERS, FEED_FORWARD, tensors).build()
}

fn builder(layers: usize, feed_forward: usize, tensors: Vec<TensorEntry>) -> GgufBuilder {
    let vocabulary = vocabulary();
    let vocabulary: Vec<&str> = vocabulary.iter().map(String::as_str).collect();
    let kind = |id: usize| if id < normal_tokens() { 1 } else { 3 };
    let kinds: Vec<i32> = (0..vocabulary_size()).map(kind).collect();
    let mut builder = GgufBuilder::default()
        .text("general.architecture", "llama")
        .count("llama.context_length", CONTEXT)
        .count("llama.embedding_length", HIDDEN as u32)
        .count("llama.block_count", layers as u32)
        .count("llama.feed_forward_length", feed_forward as u32)
        .count("llama.attention.head_count", HEADS as u32)
        .count("llama.attention.head_count_kv", KV_HEADS as u32)
        .count("llama.rope.dimension_count", HEAD_SIZE as u32)
        .number("llama.rope.freq_base", ROPE_BASE)
        .number("llama.attention.layer_norm_rms_epsilon", NORM_EPSILON)
        .count("llama.vocab_size", vocabulary_size() as u32)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "llama-bpe")
        .texts("tokenizer.ggml.tokens", &vocabulary)
        .codes("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &MERGES)
        .count("tokenizer.ggml.bos_token_id", normal_tokens() as u32)
        .count("tokenizer.ggml.eos_token_id", normal_tokens() as u32 + 4);
    builder.tensors = tensors;
    builder
}

fn entry(tensor: &Tensor) -> TensorEntry {
    TensorEntry {
        name: tensor.name.clone(),
        // The fastest dimension comes first.
        dimensions: tensor.shape.iter().rev().map(|&d| d as u64).collect(),
        ggml_type: ggml_type(tensor.format),
        offset: None,
        bytes: tensor.bytes.clone(),
    }
}

fn ggml_type(format: Format) -> u32 {
    let is_number = |number: &u32| Format::from_ggml(*number) == Some(format);
    (0..64).find(is_number).unwrap()
}
