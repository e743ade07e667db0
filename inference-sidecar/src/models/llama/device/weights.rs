//! The tensors of a model on a device.

use candle_core::{Device, Tensor};

use super::linear::{Embedding, Linear};
use crate::error::Error;
use crate::models::Module;
use crate::models::llama::shape::Shape;
use crate::models::llama::tensors::{TensorName, Tensors};

pub(super) struct Weights {
    pub embedding: Embedding,
    pub layers: Vec<Layer>,
    pub output_norm: Tensor,
    pub output: Linear,
}

pub(super) struct Layer {
    pub attention_norm: Tensor,
    pub feed_forward_norm: Tensor,
    /// By [`Module`].
    linears: Vec<Linear>,
}

impl Layer {
    pub(super) fn linear(&self, module: Module) -> &Linear {
        &self.linears[module as usize]
    }
}

impl Weights {
    pub(super) fn read(
        tensors: &Tensors<'_>,
        shape: &Shape,
        device: &Device,
    ) -> Result<Self, Error> {
        let reader = Reader {
            tensors,
            shape,
            device,
        };
        let (vocabulary, hidden) = (shape.vocabulary, shape.hidden);
        let vectors = tensors
            .unread_matrix(TensorName::Embedding, vocabulary, hidden)?
            .read()?;
        let output = match tensors.has(TensorName::Output) {
            true => tensors
                .unread_matrix(TensorName::Output, vocabulary, hidden)?
                .read()?,
            // Without a matrix of its own the output uses the vectors of the vocabulary.
            false => vectors.clone(),
        };
        let layers = (0..shape.layers)
            .map(|index| reader.layer(index))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embedding: Embedding::new(&vectors, device)?,
            layers,
            output_norm: reader.norm(TensorName::OutputNorm)?,
            output: Linear::new(&output, device)?,
        })
    }
}

struct Reader<'a> {
    tensors: &'a Tensors<'a>,
    shape: &'a Shape,
    device: &'a Device,
}

impl Reader<'_> {
    fn layer(&self, index: usize) -> Result<Layer, Error> {
        let linear = |module| {
            let (outputs, inputs) = self.shape.of_module(module);
            let name = TensorName::Linear(index, module);
            let matrix = self.tensors.unread_matrix(name, outputs, inputs)?.read()?;
            Linear::new(&matrix, self.device)
        };
        Ok(Layer {
            attention_norm: self.norm(TensorName::AttentionNorm(index))?,
            feed_forward_norm: self.norm(TensorName::FeedForwardNorm(index))?,
            linears: Module::ALL
                .map(linear)
                .into_iter()
                .collect::<Result<_, _>>()?,
        })
    }

    fn norm(&self, name: TensorName) -> Result<Tensor, Error> {
        let values = self.tensors.vector(name, self.shape.hidden)?;
        Ok(Tensor::new(values, self.device)?)
    }
}
