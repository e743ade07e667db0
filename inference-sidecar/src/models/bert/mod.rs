//! BERT embeddings from a sentence-transformers directory, computed by candle.
//!
//! `directory` reads what the files beside the weights ask for.

mod directory;

use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};

use crate::error::Error;
use crate::file_bytes::read_whole;
use crate::models::EmbeddingModel;
use directory::{BertSettings, Pooling};

/// A BERT model with the pooling and normalisation that its directory asks for.
pub struct BertEmbedder {
    model: BertModel,
    settings: BertSettings,
}

/// The least length that a vector is divided by, as in PyTorch.
const LENGTH_MIN: f64 = 1e-12;

impl BertEmbedder {
    /// Loads the model in `directory`, refusing what it would compute differently from its authors.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let settings = BertSettings::read(directory)?;
        let weights = weights_path(directory);
        let model = load_weights(&weights, &settings.config)?;
        Ok(Self { model, settings })
    }

    /// Number of token ids; all ids are below it.
    pub fn vocabulary_size(&self) -> usize {
        self.settings.config.vocab_size
    }

    /// The weight file of the model in `directory`.
    pub fn weights_path(directory: &Path) -> PathBuf {
        weights_path(directory)
    }

    fn forward(&self, batch: &[&[u32]]) -> candle_core::Result<Tensor> {
        let longest = batch.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        // Checked to be an id of the vocabulary.
        let pad_token = self.settings.config.pad_token_id as u32;
        let mut ids = Vec::with_capacity(batch.len() * longest);
        let mut mask = Vec::with_capacity(batch.len() * longest);
        for tokens in batch {
            let padding = longest - tokens.len();
            ids.extend_from_slice(tokens);
            ids.extend(std::iter::repeat_n(pad_token, padding));
            mask.extend(std::iter::repeat_n(1f32, tokens.len()));
            mask.extend(std::iter::repeat_n(0f32, padding));
        }
        let shape = (batch.len(), longest);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let pooled = match self.settings.pooling {
            Pooling::FirstToken => hidden.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                let mask = mask.unsqueeze(D::Minus1)?;
                let sum = hidden.broadcast_mul(&mask)?.sum(1)?;
                sum.broadcast_div(&mask.sum(1)?)?
            }
        };
        if !self.settings.normalizes {
            return Ok(pooled);
        }
        let length = pooled.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        pooled.broadcast_div(&length.maximum(LENGTH_MIN)?)
    }
}

impl EmbeddingModel for BertEmbedder {
    fn dimensions(&self) -> usize {
        self.settings.config.hidden_size
    }

    fn tokens_max(&self) -> usize {
        self.settings.tokens_max
    }

    fn embed(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        assert!(
            batch
                .iter()
                .all(|tokens| (1..=self.tokens_max()).contains(&tokens.len()))
        );
        assert!(
            batch
                .iter()
                .flat_map(|t| t.iter())
                .all(|&id| (id as usize) < self.vocabulary_size())
        );
        let vectors = self.forward(batch)?.to_vec2::<f32>()?;
        if vectors.iter().flatten().any(|value| !value.is_finite()) {
            return Err(Error::NotANumber);
        }
        Ok(vectors)
    }
}

fn weights_path(directory: &Path) -> PathBuf {
    directory.join("model.safetensors")
}

/// Only what the model uses stays in memory, once, as f32; the file's bytes are dropped.
fn load_weights(path: &Path, config: &Config) -> Result<BertModel, Error> {
    let unusable = |error: candle_core::Error| Error::model_file(path, error.to_string());
    let bytes = read_whole(path)?;
    let weights = VarBuilder::from_slice_safetensors(&bytes, DType::F32, &Device::Cpu);
    let weights = weights.map_err(unusable)?;
    BertModel::load(weights, config).map_err(unusable)
}
