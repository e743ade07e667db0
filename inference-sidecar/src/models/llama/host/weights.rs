//! The tensors of a model as the kernels read them.

use std::sync::Arc;

use kernels::{Arena, DenseMatrix, PackedMatrix};

use crate::error::Error;
use crate::models::Module;
use crate::models::llama::Precision;
use crate::models::llama::shape::Shape;
use crate::models::llama::tensors::{TensorName, Tensors};

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
    /// In few bits.
    Packed(PackedMatrix),
    Dense(DenseMatrix),
}

impl Layer {
    pub(super) fn linear(&self, module: Module) -> &Linear {
        &self.linears[module as usize]
    }
}

impl Linear {
    pub(super) fn columns(&self) -> usize {
        match self {
            Self::Packed(matrix) => matrix.columns(),
            Self::Dense(matrix) => matrix.columns(),
        }
    }

    /// The values of one row.
    pub(super) fn read_row(&self, row: usize, values: &mut [f32]) {
        match self {
            Self::Packed(matrix) => matrix.read_row(row, values),
            Self::Dense(matrix) => matrix.read_row(row, values),
        }
    }
}

impl Weights {
    pub(super) fn read(
        tensors: &Tensors<'_>,
        shape: &Shape,
        precision: Precision,
    ) -> Result<Self, Error> {
        let arena = Arena::default();
        Reader {
            tensors,
            shape,
            precision,
            arena,
        }
        .weights()
    }
}

struct Reader<'a> {
    tensors: &'a Tensors<'a>,
    shape: &'a Shape,
    precision: Precision,
    /// Matrices lie in it in the order in which a step meets them.
    arena: Arena,
}

impl Reader<'_> {
    fn weights(&mut self) -> Result<Weights, Error> {
        let embedding = Arc::new(self.vectors(TensorName::Embedding)?);
        let layers = (0..self.shape.layers).map(|index| self.layer(index));
        let layers = layers.collect::<Result<_, _>>()?;
        let output = match self.tensors.has(TensorName::Output) {
            true => Arc::new(self.vectors(TensorName::Output)?),
            // Without a matrix of its own the output uses the vectors of the vocabulary.
            false => embedding.clone(),
        };
        let output_norm = TensorName::OutputNorm;
        Ok(Weights {
            embedding,
            layers,
            output_norm: self.tensors.vector(output_norm, self.shape.hidden)?,
            output,
        })
    }

    fn vectors(&mut self, name: TensorName) -> Result<Linear, Error> {
        self.linear(name, self.shape.vocabulary, self.shape.hidden)
    }

    fn layer(&mut self, index: usize) -> Result<Layer, Error> {
        let mut linears = Vec::with_capacity(Module::ALL.len());
        for module in Module::ALL {
            let (outputs, inputs) = self.shape.of_module(module);
            linears.push(self.linear(TensorName::Linear(index, module), outputs, inputs)?);
        }
        let norm = |name| self.tensors.vector(name, self.shape.hidden);
        Ok(Layer {
            attention_norm: norm(TensorName::AttentionNorm(index))?,
            feed_forward_norm: norm(TensorName::FeedForwardNorm(index))?,
            linears,
        })
    }

    fn linear(&mut self, name: TensorName, rows: usize, columns: usize) -> Result<Linear, Error> {
        let matrix = self.tensors.unread_matrix(name, rows, columns)?;
        let packed = match self.precision {
            Precision::Fast | Precision::Compact => matrix.pack(&mut self.arena)?,
            Precision::Exact => None,
        };
        match packed {
            Some(packed) => Ok(Linear::Packed(packed)),
            None => matrix.pack_dense(&mut self.arena).map(Linear::Dense),
        }
    }
}
