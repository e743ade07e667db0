//! Goal: the language model computes what llama.cpp computes, measured on llama.cpp's own tokens.

use candle_core::Device;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{Compute, LanguageModel, Llama, LlamaOptions, Precision};
use proto::model::{ChatMessage, Role};

use super::forward::{self, log_softmax};
use super::sidecar;

/// Largest difference of a log-probability from llama.cpp, both in f32.
const LOG_PROBABILITY_TOLERANCE: f64 = 5e-4;

/// `llama_steps.json`; `reference/README.md` says how it was made.
#[derive(serde::Deserialize)]
pub struct Fixture {
    pub made_with: String,
    pub top: usize,
    pub conversations: Vec<Conversation>,
}

#[derive(serde::Deserialize)]
pub struct Conversation {
    pub messages: Vec<Message>,
    pub prompt: Vec<u32>,
    /// What llama.cpp answers, greedily.
    pub tokens: Vec<u32>,
    /// Per token: the distance of the two highest logits.
    pub margins: Vec<f32>,
}

#[derive(serde::Deserialize)]
pub struct Message {
    role: String,
    content: String,
}

impl Conversation {
    /// The model's logits at each step, when it reads llama.cpp's tokens.
    fn logits(&self, llama: &mut Llama) -> Vec<Vec<f32>> {
        let tokens = [self.prompt.as_slice(), &self.tokens].concat();
        let positions: Vec<usize> = (self.prompt.len()..tokens.len()).map(|p| p - 1).collect();
        forward::logits(llama, &tokens, &positions)
    }
}

/// The likeliest tokens of one step with their log-probabilities.
struct ReferenceStep {
    ids: Vec<usize>,
    log_probabilities: Vec<f64>,
}

pub fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/llama_steps.json")).unwrap()
}

impl Message {
    pub fn checked(&self) -> ChatMessage {
        let role = match self.role.as_str() {
            "system" => Role::System,
            "assistant" => Role::Assistant,
            _ => Role::User,
        };
        ChatMessage {
            role,
            content: self.content.clone(),
        }
    }
}

fn reference_steps(packed: &[u8], top: usize) -> Vec<ReferenceStep> {
    let words: Vec<[u8; 4]> = packed
        .chunks_exact(4)
        .map(|word| word.try_into().unwrap())
        .collect();
    let step = |words: &[[u8; 4]]| ReferenceStep {
        ids: words[..top]
            .iter()
            .map(|&word| u32::from_le_bytes(word) as usize)
            .collect(),
        log_probabilities: words[top..]
            .iter()
            .map(|&word| f32::from_le_bytes(word).into())
            .collect(),
    };
    words.chunks_exact(2 * top).map(step).collect()
}

/// KL divergence over the reference's likeliest tokens and one bin for all others.
fn divergence(reference: &ReferenceStep, logits: &[f32]) -> f64 {
    let own = log_softmax(logits);
    let (mut sum, mut rest, mut own_rest) = (0.0, 1.0, 1.0);
    for (&id, &p) in reference.ids.iter().zip(&reference.log_probabilities) {
        let q = own[id];
        sum += p.exp() * (p - q);
        rest -= p.exp();
        own_rest -= q.exp();
    }
    let (rest, own_rest) = (rest.max(1e-12), own_rest.max(1e-12));
    sum + rest * (rest / own_rest).ln()
}

fn argmax(logits: &[f32]) -> usize {
    (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap()
}

#[test]
fn logits_match_llama_cpp() {
    let Some(path) = sidecar::language_model("logits_match_llama_cpp") else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let llama = Llama::from_gguf(&file, &LlamaOptions::cpu()).unwrap();
    check_against_llama_cpp(llama, 5e-3, 0.5);
}

/// Keys and values are rounded once more, so what is clear must be clearer.
#[test]
fn keys_and_values_in_8_bits_change_little() {
    let Some(path) = sidecar::language_model("keys_and_values_in_8_bits_change_little") else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let options = LlamaOptions {
        compute: Compute::Host(Precision::Compact),
        ..LlamaOptions::cpu()
    };
    let compact = Llama::from_gguf(&file, &options).unwrap();
    let half = Llama::from_gguf(&file, &LlamaOptions::cpu()).unwrap();
    let bytes = compact.kv_block_bytes() as f64 / half.kv_block_bytes() as f64;
    assert!((0.5..0.54).contains(&bytes), "{bytes}");
    check_against_llama_cpp(compact, 1e-2, 1.0);
}

#[test]
fn candle_computes_the_same() {
    let Some(path) = sidecar::language_model("candle_computes_the_same") else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let options = LlamaOptions {
        compute: Compute::Candle(Device::Cpu),
        ..LlamaOptions::cpu()
    };
    let llama = Llama::from_gguf(&file, &options).unwrap();
    check_against_llama_cpp(llama, 5e-3, 0.5);
}

/// The mean divergence is at most `mean_max`, and the likeliest token is the same where llama.cpp's margin is
/// above `clear`.
fn check_against_llama_cpp(mut llama: Llama, mean_max: f64, clear: f32) {
    let fixture = fixture();
    let packed = include_bytes!("../fixtures/llama_steps.bin");
    let references = reference_steps(packed, fixture.top);
    let mut references = references.iter();
    let (mut divergences, mut clear_steps) = (Vec::new(), 0);
    for conversation in &fixture.conversations {
        let rows = conversation.logits(&mut llama);
        let steps = conversation.tokens.iter().zip(&conversation.margins);
        for ((&token, &margin), logits) in steps.zip(&rows) {
            divergences.push(divergence(references.next().unwrap(), logits));
            if margin > clear {
                clear_steps += 1;
                assert_eq!(argmax(logits), token as usize, "margin {margin}");
            }
        }
    }
    assert!(references.next().is_none());
    let mean = divergences.iter().sum::<f64>() / divergences.len() as f64;
    let highest = divergences.iter().copied().fold(0.0, f64::max);
    println!(
        "{} steps against {}: KL mean {mean:.2e} max {highest:.2e}; \
         the likeliest token agrees in all {clear_steps} clear steps",
        divergences.len(),
        fixture.made_with
    );
    assert!(mean <= mean_max, "{mean}");
}

/// llama.cpp on a copy of the model whose weights are unpacked to f32: neither side rounds more
/// than f32 does, so the likeliest tokens must have the same probabilities.
#[test]
fn log_probabilities_equal_those_of_unpacked_weights() {
    let Some(path) = sidecar::language_model("log_probabilities_equal_those_of_unpacked_weights")
    else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let mut llama = Llama::from_gguf(&file, &LlamaOptions::exact()).unwrap();
    let fixture = fixture();
    let packed = include_bytes!("../fixtures/llama_f32_steps.bin");
    let references = reference_steps(packed, fixture.top);
    let mut references = references.iter();
    let mut largest = 0f64;
    for conversation in &fixture.conversations {
        for logits in conversation.logits(&mut llama) {
            let reference = references.next().unwrap();
            let own = log_softmax(&logits);
            let pairs = reference.ids.iter().zip(&reference.log_probabilities);
            let differences = pairs.map(|(&id, p)| (own[id] - p).abs());
            largest = differences.fold(largest, f64::max);
        }
    }
    assert!(references.next().is_none());
    println!("largest difference of a log-probability: {largest:.2e}");
    assert!(largest <= LOG_PROBABILITY_TOLERANCE, "{largest}");
}
