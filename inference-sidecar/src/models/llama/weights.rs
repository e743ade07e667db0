//! The tensors of a model. Small models are unpacked to f32, for which the CPU has fast kernels;
//! large ones stay quantised, because they would not fit.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

use super::shape::Shape;
use crate::error::Error;
use crate::gguf::GgufFile;

pub(super) struct Weights {
    pub embedding: Embedding,
    pub layers: Vec<Layer>,
    pub output_norm: Tensor,
    pub output: Linear,
}

pub(super) struct Layer {
    pub attention_norm: Tensor,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub attention_output: Linear,
    pub feed_forward_norm: Tensor,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// A matrix that is multiplied with activations (tokens × inputs).
pub(super) enum Linear {
    /// Inputs × outputs, a transposed view of the stored matrix.
    Unpacked(Tensor),
    Quantized(QMatMul),
}

/// The vectors of the vocabulary.
pub(super) enum Embedding {
    Unpacked(Tensor),
    Quantized(Arc<QTensor>),
}

impl Weights {
    pub(super) fn read(
        file: &mut GgufFile,
        shape: &Shape,
        dequantize_below_bytes: u64,
    ) -> Result<Self, Error> {
        let unpacked_bytes = file.weight_count().saturating_mul(size_of::<f32>() as u64);
        let mut reader = Reader {
            file,
            shape,
            unpack: unpacked_bytes < dequantize_below_bytes,
        };
        let vectors = Arc::new(
            reader
                .file
                .tensor("token_embd.weight", &[shape.vocabulary, shape.hidden])?,
        );
        let embedding = match reader.unpack {
            true => Embedding::Unpacked(vectors.dequantize(&Device::Cpu)?),
            false => Embedding::Quantized(vectors.clone()),
        };
        let output = match (&embedding, reader.file.has_tensor("output.weight")) {
            (_, true) => reader.linear("output.weight", shape.vocabulary, shape.hidden)?,
            // Without a matrix of its own the output uses the vectors of the vocabulary.
            (Embedding::Unpacked(vectors), false) => Linear::Unpacked(vectors.t()?),
            (Embedding::Quantized(vectors), false) => {
                Linear::Quantized(QMatMul::from_arc(vectors.clone())?)
            }
        };
        let layers = (0..shape.layers)
            .map(|index| reader.layer(index))
            .collect::<Result<_, _>>()?;
        let output_norm = reader.norm("output_norm.weight")?;
        Ok(Self {
            embedding,
            layers,
            output_norm,
            output,
        })
    }
}

struct Reader<'a> {
    file: &'a mut GgufFile,
    shape: &'a Shape,
    unpack: bool,
}

impl Reader<'_> {
    fn layer(&mut self, index: usize) -> Result<Layer, Error> {
        let Shape {
            hidden,
            feed_forward,
            heads,
            kv_heads,
            head_size,
            ..
        } = *self.shape;
        let (queries, keys) = (heads * head_size, kv_heads * head_size);
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        Ok(Layer {
            attention_norm: self.norm(&name("attn_norm"))?,
            query: self.linear(&name("attn_q"), queries, hidden)?,
            key: self.linear(&name("attn_k"), keys, hidden)?,
            value: self.linear(&name("attn_v"), keys, hidden)?,
            attention_output: self.linear(&name("attn_output"), hidden, queries)?,
            feed_forward_norm: self.norm(&name("ffn_norm"))?,
            gate: self.linear(&name("ffn_gate"), feed_forward, hidden)?,
            up: self.linear(&name("ffn_up"), feed_forward, hidden)?,
            down: self.linear(&name("ffn_down"), hidden, feed_forward)?,
        })
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, Error> {
        let tensor = self.file.tensor(name, &[outputs, inputs])?;
        Ok(match self.unpack {
            true => Linear::Unpacked(tensor.dequantize(&Device::Cpu)?.t()?),
            false => Linear::Quantized(QMatMul::from_qtensor(tensor)?),
        })
    }

    fn norm(&mut self, name: &str) -> Result<Tensor, Error> {
        Ok(self
            .file
            .tensor(name, &[self.shape.hidden])?
            .dequantize(&Device::Cpu)?)
    }
}

impl Linear {
    pub(super) fn apply(&self, activations: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Linear::Unpacked(matrix) => activations.matmul(matrix),
            Linear::Quantized(matrix) => matrix.forward(activations),
        }
    }
}

impl Embedding {
    /// One vector per token.
    pub(super) fn look_up(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Embedding::Unpacked(vectors) => vectors.index_select(tokens, 0),
            Embedding::Quantized(vectors) => vectors.embedding(tokens),
        }
    }
}
