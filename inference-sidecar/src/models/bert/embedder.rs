//! Embeddings from a sentence-transformers directory.

use std::path::Path;

use super::directory::{Pooling, read_modules};
use super::{BertPrecision, Encoder};
use crate::error::Error;
use crate::models::EmbeddingModel;

/// The least length that a vector is divided by, as in PyTorch.
const LENGTH_MIN: f32 = 1e-12;

/// A BERT model with the pooling and normalisation that its directory asks for.
pub struct BertEmbedder {
    encoder: Encoder,
    pooling: Pooling,
    /// Vectors are scaled to length 1.
    normalizes: bool,
}

impl BertEmbedder {
    /// Loads the model in `directory`, refusing what it would compute differently from its authors.
    pub fn load(directory: &Path, precision: BertPrecision) -> Result<Self, Error> {
        let (pooling, normalizes) = read_modules(directory)?;
        Ok(Self {
            encoder: Encoder::load(directory, precision, None)?,
            pooling,
            normalizes,
        })
    }
}

impl EmbeddingModel for BertEmbedder {
    fn dimensions(&self) -> usize {
        self.encoder.config.hidden_size
    }

    fn tokens_max(&self) -> usize {
        self.encoder.tokens_max
    }

    fn vocabulary_size(&self) -> usize {
        self.encoder.config.vocab_size
    }

    fn embed(&self, batch: &[&[u32]], pause: &mut dyn FnMut()) -> Result<Vec<Vec<f32>>, Error> {
        let (hidden, pooling, normalizes) = (self.dimensions(), self.pooling, self.normalizes);
        self.encoder.run(batch, pause, |rows| {
            let vector = pool(rows, hidden, pooling);
            if normalizes { scaled(vector) } else { vector }
        })
    }
}

/// The vector of a sequence from those of its tokens.
fn pool(rows: &[f32], hidden: usize, pooling: Pooling) -> Vec<f32> {
    let width = kernels::filled(hidden);
    let mut vector = rows[..hidden].to_vec();
    if pooling == Pooling::Mean {
        for row in rows.chunks_exact(width).skip(1) {
            vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let count = (rows.len() / width) as f32;
        vector.iter_mut().for_each(|value| *value /= count);
    }
    vector
}

/// `vector` at length 1.
fn scaled(mut vector: Vec<f32>) -> Vec<f32> {
    let squares: f32 = vector.iter().map(|value| value * value).sum();
    let length = squares.sqrt();
    // What is not a number stays so.
    let length = if length < LENGTH_MIN {
        LENGTH_MIN
    } else {
        length
    };
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
