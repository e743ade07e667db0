//! Goal: the language model computes what llama.cpp computes, measured on llama.cpp's own tokens.

use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    BatchPlan, BlockId, KV_BLOCK_TOKENS, LanguageModel, Llama, LlamaOptions, LogitsOf, SequencePlan,
};
use proto::model::{ChatMessage, Role};

use super::sidecar;

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

fn reference_steps(top: usize) -> Vec<ReferenceStep> {
    let words: Vec<[u8; 4]> = include_bytes!("../fixtures/llama_steps.bin")
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
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits
        .iter()
        .map(|&logit| f64::from(logit - highest).exp())
        .sum();
    let log_probability = |id: usize| f64::from(logits[id] - highest) - total.ln();
    let (mut sum, mut rest, mut own_rest) = (0.0, 1.0, 1.0);
    for (&id, &p) in reference.ids.iter().zip(&reference.log_probabilities) {
        let q = log_probability(id);
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

/// Reads a text token by token or in chunks, alone in the model.
pub struct Reader {
    model: Llama,
    blocks: Vec<BlockId>,
    position: usize,
}

impl Reader {
    pub fn new(mut model: Llama, tokens_max: usize) -> Self {
        let count = tokens_max.div_ceil(KV_BLOCK_TOKENS);
        model.reserve_kv(count).unwrap();
        // Not in order, so that a wrong block table shows.
        let blocks = (0..count as u32).rev().map(BlockId).collect();
        Self {
            model,
            blocks,
            position: 0,
        }
    }

    /// Scores of the last token.
    pub fn read(&mut self, tokens: &[u32]) -> Vec<f32> {
        let sequence = SequencePlan {
            tokens,
            position: self.position,
            blocks: &self.blocks,
            adapter: None,
            logits: LogitsOf::LastToken,
        };
        let plan = BatchPlan {
            sequences: vec![sequence],
            is_abandoned: &|| false,
        };
        self.position += tokens.len();
        self.model.forward(&plan).unwrap().remove(0)
    }

    pub fn restart(&mut self) {
        self.position = 0;
    }
}

fn check_against_llama_cpp(model: Llama) {
    let fixture = fixture();
    let references = reference_steps(fixture.top);
    let mut references = references.iter();
    let (mut divergences, mut clear_steps) = (Vec::new(), 0);
    let mut reader = Reader::new(model, 2048);
    for conversation in &fixture.conversations {
        reader.restart();
        let mut logits = Vec::new();
        for chunk in conversation.prompt.chunks(50) {
            logits = reader.read(chunk);
        }
        for (&token, &margin) in conversation.tokens.iter().zip(&conversation.margins) {
            divergences.push(divergence(references.next().unwrap(), &logits));
            if margin > 0.5 {
                clear_steps += 1;
                assert_eq!(argmax(&logits), token as usize, "margin {margin}");
            }
            logits = reader.read(&[token]);
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
    assert!(mean <= 5e-3, "{mean}");
}

#[test]
fn logits_match_llama_cpp() {
    let Some(path) = sidecar::language_model("logits_match_llama_cpp") else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    check_against_llama_cpp(Llama::from_gguf(&file, &LlamaOptions::cpu()).unwrap());
}

#[test]
fn candle_computes_the_same() {
    let Some(path) = sidecar::language_model("candle_computes_the_same") else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let options = LlamaOptions {
        use_candle: true,
        ..LlamaOptions::cpu()
    };
    check_against_llama_cpp(Llama::from_gguf(&file, &options).unwrap());
}
