//! BERT embeddings from a sentence-transformers directory, computed in f32 but for the linear layers, which are in
//! bf16 or, where that is asked for, in 8 bits.
//!
//! - `directory`: what the files beside the weights ask for
//! - `linear`: linear layers in either precision
//! - `weights`: the tensors, packed
//! - `forward`: one step over a batch

mod directory;
mod forward;
mod linear;
mod weights;

use std::path::{Path, PathBuf};

use kernels::{Level, Pool};

use crate::error::Error;
use crate::models::EmbeddingModel;
use directory::BertSettings;
use forward::{Buffers, Step};
pub use linear::BertPrecision;
use weights::Weights;

/// A BERT model with the pooling and normalisation that its directory asks for.
pub struct BertEmbedder {
    settings: BertSettings,
    weights: Weights,
    buffers: Buffers,
    level: Level,
    pool: &'static Pool,
}

impl BertEmbedder {
    /// Loads the model in `directory`, refusing what it would compute differently from its authors.
    pub fn load(directory: &Path, precision: BertPrecision) -> Result<Self, Error> {
        let settings = BertSettings::read(directory)?;
        Ok(Self {
            weights: Weights::read(&weights_path(directory), &settings.config, precision)?,
            settings,
            buffers: Buffers::default(),
            level: Level::best(),
            pool: Pool::global(),
        })
    }

    /// Number of token ids; all ids are below it.
    pub fn vocabulary_size(&self) -> usize {
        self.settings.config.vocab_size
    }

    /// The weight file of the model in `directory`.
    pub fn weights_path(directory: &Path) -> PathBuf {
        weights_path(directory)
    }
}

impl EmbeddingModel for BertEmbedder {
    fn dimensions(&self) -> usize {
        self.settings.config.hidden_size
    }

    fn tokens_max(&self) -> usize {
        self.settings.tokens_max
    }

    fn embed(&mut self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
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
        let step = Step {
            settings: &self.settings,
            weights: &self.weights,
            level: self.level,
            pool: self.pool,
        };
        let vectors = step.run(batch, &mut self.buffers);
        if vectors.iter().flatten().any(|value| !value.is_finite()) {
            return Err(Error::NotANumber);
        }
        Ok(vectors)
    }
}

fn weights_path(directory: &Path) -> PathBuf {
    directory.join("model.safetensors")
}
