//! Cross-encoders: a query and a passage are read together, and the model says how well they fit (Nogueira and Cho,
//! 2019, "Passage Re-ranking with BERT"). Source: `BertForSequenceClassification` of transformers.

use std::path::Path;

use super::{BertPrecision, Encoder, weights_path};
use crate::error::Error;
use crate::models::EmbeddingModel;
use crate::safetensors_model::WeightFile;

/// A BERT model with a head of one label. Its vectors have one value: the label's logit.
pub struct BertReranker {
    encoder: Encoder,
    pooler: Dense,
    classifier: Dense,
}

/// A layer for one token, in f32.
struct Dense {
    /// Outputs × inputs.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl BertReranker {
    /// Loads the model in `directory`, which has weights in `model.safetensors`. A sequence is a query and a passage,
    /// each followed by the token `separator`, which neither of them has.
    pub fn load(directory: &Path, precision: BertPrecision, separator: u32) -> Result<Self, Error> {
        let encoder = Encoder::load(directory, precision, Some(separator))?;
        let path = weights_path(directory);
        if encoder.weights.second_text.is_empty() {
            let reason = "the model knows no second texts, so it is no cross-encoder";
            return Err(Error::model_file(path, reason));
        }
        let file = WeightFile::open(&path)?;
        if !file.has_tensor("classifier.weight") {
            let reason = "there is no tensor \"classifier.weight\", so it is no cross-encoder";
            return Err(Error::model_file(path, reason));
        }
        let hidden = encoder.config.hidden_size;
        Ok(Self {
            pooler: Dense::read(&file, "bert.pooler.dense", hidden, hidden)?,
            // Of several labels none would say how well the texts fit.
            classifier: Dense::read(&file, "classifier", 1, hidden)?,
            encoder,
        })
    }
}

impl EmbeddingModel for BertReranker {
    fn dimensions(&self) -> usize {
        self.classifier.bias.len()
    }

    fn tokens_max(&self) -> usize {
        self.encoder.tokens_max
    }

    fn vocabulary_size(&self) -> usize {
        self.encoder.config.vocab_size
    }

    fn embed(&self, batch: &[&[u32]], pause: &mut dyn FnMut()) -> Result<Vec<Vec<f32>>, Error> {
        let (pooler, classifier) = (&self.pooler, &self.classifier);
        let hidden = self.encoder.config.hidden_size;
        self.encoder.run(batch, pause, |rows| {
            let mut pooled = pooler.apply(&rows[..hidden]);
            pooled.iter_mut().for_each(|value| *value = value.tanh());
            classifier.apply(&pooled)
        })
    }
}

impl Dense {
    fn read(file: &WeightFile, name: &str, outputs: usize, inputs: usize) -> Result<Self, Error> {
        let weights = file.matrix(&format!("{name}.weight"), outputs, inputs)?;
        Ok(Self {
            weights: weights.to_f32(),
            bias: file.vector(&format!("{name}.bias"), outputs)?,
        })
    }

    fn apply(&self, inputs: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32]| -> f32 { row.iter().zip(inputs).map(|(w, x)| w * x).sum() };
        let rows = self.weights.chunks_exact(inputs.len());
        rows.zip(&self.bias)
            .map(|(row, bias)| dot(row) + bias)
            .collect()
    }
}
