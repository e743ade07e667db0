//! The distance from llama.cpp's logits on the same tokens.

use std::path::Path;

use anyhow::ensure;

use crate::Outcome;
use crate::scores::log_softmax;

/// Largest mean Kullback-Leibler divergence. SmolLM2 in Q4_1 measures 4e-3: llama.cpp rounds
/// activations to 8 bits, the sidecar does not. A wrong rotation or permutation gives more than 1.
const DIVERGENCE_MAX: f64 = 1e-2;
/// Of the steps in which llama.cpp's likeliest token is clear, this share must agree.
const AGREEMENT_MIN: f64 = 0.99;
/// A likeliest token is clear when its logit is this far above the second.
const CLEAR_MARGIN: f32 = 0.5;

/// What `reference/run_llama_cpp.py` wrote.
pub struct Reference {
    tokens: Vec<u32>,
    steps: Vec<Step>,
}

/// llama.cpp's likeliest tokens after one position, in falling order, with their log-probabilities.
struct Step {
    ids: Vec<u32>,
    log_probabilities: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Header {
    tokens: Vec<u32>,
    /// Likeliest tokens per step.
    top: usize,
}

impl Reference {
    /// Reads `tokens.json` and `steps.bin` of the folder.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let header: Header = serde_json::from_slice(&std::fs::read(folder.join("tokens.json"))?)?;
        let bytes = std::fs::read(folder.join("steps.bin"))?;
        ensure!(
            header.top >= 2 && bytes.len().is_multiple_of(8 * header.top),
            "steps.bin has a wrong size"
        );
        let (words, _) = bytes.as_chunks::<4>();
        let step = |words: &[[u8; 4]]| {
            let (ids, log_probabilities) = words.split_at(header.top);
            Step {
                ids: ids.iter().copied().map(u32::from_le_bytes).collect(),
                log_probabilities: log_probabilities
                    .iter()
                    .copied()
                    .map(f32::from_le_bytes)
                    .collect(),
            }
        };
        Ok(Self {
            tokens: header.tokens,
            steps: words.chunks_exact(2 * header.top).map(step).collect(),
        })
    }
}

/// Collects the distances, step by step.
pub struct Comparison<'a> {
    reference: &'a Reference,
    divergences: Vec<f64>,
    clear: usize,
    agreeing: usize,
}

impl<'a> Comparison<'a> {
    pub fn new(reference: &'a Reference) -> Self {
        Self {
            reference,
            divergences: Vec::new(),
            clear: 0,
            agreeing: 0,
        }
    }

    /// Adds the sidecar's scores after `position`; positions that llama.cpp did not read are left out.
    pub fn add(&mut self, position: usize, logits: &[f32]) {
        let Some(step) = self.reference.steps.get(position) else {
            return;
        };
        let own = log_softmax(logits);
        if step.ids.iter().any(|&id| id as usize >= own.len()) {
            self.divergences.push(f64::INFINITY);
            return;
        }
        self.divergences.push(divergence(step, &own));
        if step.log_probabilities[0] - step.log_probabilities[1] > CLEAR_MARGIN {
            self.clear += 1;
            let likeliest = (0..own.len()).max_by(|&a, &b| own[a].total_cmp(&own[b]));
            self.agreeing += usize::from(likeliest == Some(step.ids[0] as usize));
        }
    }

    pub fn judge(self, tokens: &[u32]) -> Outcome {
        let pairs = self.reference.tokens.iter().zip(tokens);
        let same = pairs.take_while(|(a, b)| a == b).count();
        if same < self.reference.tokens.len().max(tokens.len()) {
            return Outcome::Failed(format!("token {same} of the text is another one"));
        }
        if self.divergences.is_empty() {
            return Outcome::Failed("llama.cpp read nothing".into());
        }
        let mean = self.divergences.iter().sum::<f64>() / self.divergences.len() as f64;
        let max = self.divergences.iter().copied().fold(0.0, f64::max);
        let share = self.agreeing as f64 / self.clear.max(1) as f64;
        let detail = format!(
            "{} tokens, divergence mean {mean:.1e} (at most {DIVERGENCE_MAX:.0e}), largest {max:.1e}; \
             likeliest token equal in {} of {} clear steps",
            self.divergences.len(),
            self.agreeing,
            self.clear
        );
        if mean <= DIVERGENCE_MAX && share >= AGREEMENT_MIN {
            Outcome::Ok(detail)
        } else {
            Outcome::Failed(detail)
        }
    }
}

/// Over llama.cpp's likeliest tokens and one bin for all others, which bounds the divergence over
/// the vocabulary from below.
fn divergence(step: &Step, own: &[f64]) -> f64 {
    let (mut sum, mut rest, mut own_rest) = (0.0, 1.0, 1.0);
    for (&id, &p) in step.ids.iter().zip(&step.log_probabilities) {
        let (p, q) = (f64::from(p), own[id as usize]);
        sum += p.exp() * (p - q);
        rest -= p.exp();
        own_rest -= q.exp();
    }
    let (rest, own_rest) = (rest.max(1e-12), own_rest.max(1e-12));
    sum + rest * (rest / own_rest).ln()
}
