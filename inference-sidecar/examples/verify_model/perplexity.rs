//! How well a model predicts the fixed text, in bits per byte, so that models with other
//! vocabularies can be compared.

use inference_sidecar::models::{LanguageModel, Llama};

use crate::Outcome;
use crate::scores::log_softmax;

/// What is expected of a model that is computed rightly.
struct Band {
    name: &'static str,
    layers: usize,
    hidden: usize,
    vocabulary: usize,
    /// Bits per byte.
    low: f64,
    high: f64,
}

/// `reference/README.md` says how each band was found.
const BANDS: [Band; 4] = [
    Band {
        name: "SmolLM2 135M",
        layers: 30,
        hidden: 576,
        vocabulary: 49_152,
        low: 1.096,
        high: 1.119,
    },
    Band {
        name: "Llama 3.1 8B",
        layers: 32,
        hidden: 4096,
        vocabulary: 128_256,
        low: 0.5,
        high: 0.95,
    },
    Band {
        name: "Llama 3.2 3B",
        layers: 28,
        hidden: 3072,
        vocabulary: 128_256,
        low: 0.55,
        high: 1.0,
    },
    Band {
        name: "Llama 3.2 1B",
        layers: 16,
        hidden: 2048,
        vocabulary: 128_256,
        low: 0.6,
        high: 1.08,
    },
];

/// Counts the bits that the text costs under the model.
pub struct Bits<'a> {
    tokens: &'a [u32],
    total: f64,
    predicted: usize,
}

impl<'a> Bits<'a> {
    pub fn new(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            total: 0.0,
            predicted: 0,
        }
    }

    /// Adds the scores after `position`.
    pub fn add(&mut self, position: usize, logits: &[f32]) {
        if let Some(&next) = self.tokens.get(position + 1) {
            self.total -= log_softmax(logits)[next as usize] / std::f64::consts::LN_2;
            self.predicted += 1;
        }
    }

    /// `text_bytes`: length of the text.
    pub fn judge(self, text_bytes: usize, model: &Llama) -> Outcome {
        let per_byte = self.total / text_bytes as f64;
        let perplexity = (self.total / self.predicted as f64).exp2();
        let found = format!(
            "{per_byte:.4} bits per byte, perplexity {perplexity:.2} over {} tokens",
            self.predicted
        );
        let base = model.adapter_base();
        let band = BANDS.iter().find(|band| {
            (band.layers, band.hidden) == (base.layers, base.hidden)
                && band.vocabulary == model.vocabulary()
        });
        let Some(Band {
            name, low, high, ..
        }) = band
        else {
            return Outcome::Skipped(format!("{found}; nothing is stated for this model"));
        };
        let detail = format!("{found}; {low} to {high} is stated for {name}");
        if (*low..=*high).contains(&per_byte) {
            Outcome::Ok(detail)
        } else {
            Outcome::Failed(detail)
        }
    }
}
