//! Llama-architecture models from GGUF files, computed by candle.
//!
//! - `shape`: the sizes in the header, checked
//! - `weights`: the tensors, unpacked to f32 or kept quantised
//! - `rotary`: position encoding
//! - `sequence`: the forward pass; a sequence owns its keys, values and position

mod rotary;
mod sequence;
mod shape;
mod weights;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::models::{Sequence, SequentialModel};
use rotary::Rotary;
use sequence::LlamaSequence;
use shape::Shape;
use weights::Weights;

/// A loaded model.
pub struct Llama {
    shape: Shape,
    weights: Weights,
    rotary: Rotary,
}

/// How to load a model.
#[derive(Debug, Clone, Copy)]
pub struct LlamaOptions {
    /// Upper bound for the model's own context length.
    pub tokens_max: usize,
    /// Models whose f32 weights are smaller than this are unpacked.
    pub dequantize_below_bytes: u64,
}

impl Llama {
    /// Reads the weights of `file`.
    pub fn load(file: &mut GgufFile, options: LlamaOptions) -> Result<Self, Error> {
        let shape = Shape::read(file, options.tokens_max)?;
        let rotary = Rotary::read(file, &shape)?;
        let weights = Weights::read(file, &shape, options.dequantize_below_bytes)?;
        Ok(Self {
            shape,
            weights,
            rotary,
        })
    }

    /// Number of entries of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }
}

impl SequentialModel for Llama {
    fn tokens_max(&self) -> usize {
        self.shape.tokens_max
    }

    fn new_sequence(&self) -> Result<Box<dyn Sequence + '_>, Error> {
        Ok(Box::new(LlamaSequence::new(self)))
    }
}
