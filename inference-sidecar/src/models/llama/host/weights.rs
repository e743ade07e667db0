//! The tensors of a model as the kernels read them.

use std::sync::Arc;

use crate::error::Error;
use crate::models::cpu::PackedMatrix;
use crate::models::llama::Precision;
use crate::models::llama::shape::Shape;
use crate::models::llama::tensors::{TensorName, Tensors};
use crate::models::{Matrix, Module, UnreadMatrix};

pub(super) struct Weights {
    pub embedding: Arc<Linear>,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    pub output: Arc<Linear>,
}

pub(super) struct Layer {
    pub attention_norm: Vec<f32>,
    pub feed_forward_norm: Vec<f32>,
    /// By [`Module`].
    linears: Vec<Linear>,
}

/// A matrix that is multiplied with activations.
pub(super) enum Linear {
    Packed(PackedMatrix),
    /// In the format of the file, where there is no kernel for it.
    Unpacked(Matrix),
}

impl Layer {
    pub(super) fn linear(&self, module: Module) -> &Linear {
        &self.linears[module as usize]
    }
}

impl Linear {
    fn read(matrix: &UnreadMatrix<'_>, precision: Precision) -> Result<Self, Error> {
        let packed = match precision {
            Precision::Fast => PackedMatrix::read(matrix)?,
            Precision::Exact => None,
        };
        match packed {
            Some(packed) => Ok(Self::Packed(packed)),
            None => matrix.read().map(Self::Unpacked),
        }
    }

    /// The values of one row.
    pub(super) fn read_row(&self, row: usize, values: &mut [f32]) {
        match self {
            Self::Packed(matrix) => matrix.read_row(row, values),
            Self::Unpacked(matrix) => matrix.read_row(row, values),
        }
    }
}

impl Weights {
    pub(super) fn read(
        tensors: &Tensors<'_>,
        shape: &Shape,
        precision: Precision,
    ) -> Result<Self, Error> {
        let (vocabulary, hidden) = (shape.vocabulary, shape.hidden);
        let vectors = |name| -> Result<_, Error> {
            let matrix = tensors.unread_matrix(name, vocabulary, hidden)?;
            Ok(Arc::new(Linear::read(&matrix, precision)?))
        };
        let embedding = vectors(TensorName::Embedding)?;
        let output = match tensors.has(TensorName::Output) {
            true => vectors(TensorName::Output)?,
            // Without a matrix of its own the output uses the vectors of the vocabulary.
            false => embedding.clone(),
        };
        let layers = (0..shape.layers).map(|index| read_layer(tensors, shape, precision, index));
        Ok(Self {
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            output_norm: tensors.vector(TensorName::OutputNorm, hidden)?,
            output,
        })
    }
}

fn read_layer(
    tensors: &Tensors<'_>,
    shape: &Shape,
    precision: Precision,
    index: usize,
) -> Result<Layer, Error> {
    let linear = |module| {
        let (outputs, inputs) = shape.of_module(module);
        let name = TensorName::Linear(index, module);
        Linear::read(&tensors.unread_matrix(name, outputs, inputs)?, precision)
    };
    let norm = |name| tensors.vector(name, shape.hidden);
    Ok(Layer {
        attention_norm: norm(TensorName::AttentionNorm(index))?,
        feed_forward_norm: norm(TensorName::FeedForwardNorm(index))?,
        linears: Module::ALL
            .map(linear)
            .into_iter()
            .collect::<Result<_, _>>()?,
    })
}
