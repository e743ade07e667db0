//! Models of the BERT family from directories of Hugging Face, computed in f32 but for the linear layers, which are in
//! bf16 or, where that is asked for, in 8 bits.
//!
//! - `directory`: what the files beside the weights ask for
//! - `linear`: linear layers in either precision
//! - `weights`: the tensors, packed
//! - `forward`: one step over a batch
//! - `embedder`, `reranker`: what they make of its results

mod directory;
mod embedder;
mod forward;
mod linear;
mod reranker;
mod weights;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use kernels::{Level, Pool};

use crate::error::Error;
use directory::{Config, read_tokens_max};
pub use embedder::BertEmbedder;
use forward::{Buffers, Step};
pub use linear::BertPrecision;
pub use reranker::BertReranker;
use weights::Weights;

/// The weight file of the model in `directory`.
pub fn weights_path(directory: &Path) -> PathBuf {
    directory.join("model.safetensors")
}

/// The layers, with the memory that they work in: that of a batch, and of those that run in its pauses.
struct Encoder {
    config: Config,
    weights: Weights,
    tokens_max: usize,
    /// As in [`Step`].
    separator: Option<u32>,
    buffers: RefCell<Vec<Buffers>>,
    level: Level,
    pool: &'static Pool,
}

impl Encoder {
    fn load(
        directory: &Path,
        precision: BertPrecision,
        separator: Option<u32>,
    ) -> Result<Self, Error> {
        let config = Config::read(directory)?;
        Ok(Self {
            tokens_max: read_tokens_max(directory, config.max_position_embeddings)?,
            weights: Weights::read(&weights_path(directory), &config, precision)?,
            config,
            separator,
            buffers: RefCell::default(),
            level: Level::best(),
            pool: Pool::global(),
        })
    }

    /// What `read` makes of each sequence's vectors, as in [`Step::run`].
    fn run(
        &self,
        batch: &[&[u32]],
        pause: &mut dyn FnMut(),
        read: impl Fn(&[f32]) -> Vec<f32>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        assert!(
            batch
                .iter()
                .all(|tokens| (1..=self.tokens_max).contains(&tokens.len()))
        );
        assert!(
            batch
                .iter()
                .flat_map(|t| t.iter())
                .all(|&id| (id as usize) < self.config.vocab_size)
        );
        let step = Step {
            config: &self.config,
            weights: &self.weights,
            separator: self.separator,
            level: self.level,
            pool: self.pool,
        };
        let mut buffers = self.buffers.borrow_mut().pop().unwrap_or_default();
        let vectors = step.run(batch, &mut buffers, pause, read);
        self.buffers.borrow_mut().push(buffers);
        if vectors.iter().flatten().any(|value| !value.is_finite()) {
            return Err(Error::NotANumber);
        }
        Ok(vectors)
    }
}
