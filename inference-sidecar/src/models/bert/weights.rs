//! The tensors of a model as the kernels read them.

use std::path::Path;

use kernels::{Arena, LayerNorm};

use super::directory::Config;
use super::linear::{BertPrecision, Linear};
use crate::error::Error;
use crate::models::Matrix;
use crate::safetensors_model::WeightFile;

pub(super) struct Weights {
    /// The vector of each token id.
    pub words: Matrix,
    /// What is added at each position, with what is added to tokens of a first text.
    pub places: Vec<f32>,
    /// What is added to tokens of a second text besides; nothing where a model knows single texts only.
    pub second_text: Vec<f32>,
    pub norm: LayerNorm,
    pub layers: Vec<Layer>,
}

pub(super) struct Layer {
    /// Queries, keys and values.
    pub heads: Linear,
    pub attended: Linear,
    pub attended_norm: LayerNorm,
    pub wide: Linear,
    pub narrow: Linear,
    pub norm: LayerNorm,
}

impl Weights {
    /// Reads tensor after tensor, so that none is in memory twice.
    pub(super) fn read(
        path: &Path,
        config: &Config,
        precision: BertPrecision,
    ) -> Result<Self, Error> {
        let widths = [config.hidden_size, config.intermediate_size];
        if !widths.into_iter().all(|width| precision.fits(width)) {
            let reason = "in 8 bits all widths of a model must be multiples of 32";
            return Err(Error::model_file(path, reason));
        }
        let file = WeightFile::open(path)?;
        // Files of models with a head for pre-training have the prefix.
        let words = "embeddings.word_embeddings.weight";
        let is_prefixed = !file.has_tensor(words) && file.has_tensor(&format!("bert.{words}"));
        let tensors = Tensors {
            file,
            prefix: if is_prefixed { "bert." } else { "" },
            config,
            precision,
        };
        tensors.weights()
    }
}

struct Tensors<'a> {
    file: WeightFile,
    /// Before the name of each tensor.
    prefix: &'static str,
    config: &'a Config,
    precision: BertPrecision,
}

impl Tensors<'_> {
    fn weights(&self) -> Result<Weights, Error> {
        let Config {
            vocab_size,
            hidden_size,
            max_position_embeddings,
            type_vocab_size,
            ..
        } = *self.config;
        let table = |name: &str, rows| self.matrix(name, rows, hidden_size);
        let places = "embeddings.position_embeddings.weight";
        let mut places = table(places, max_position_embeddings)?.to_f32();
        let kinds = table("embeddings.token_type_embeddings.weight", type_vocab_size)?.to_f32();
        let (first, others) = kinds.split_at(hidden_size);
        for place in places.chunks_exact_mut(hidden_size) {
            place.iter_mut().zip(first).for_each(|(x, kind)| *x += kind);
        }
        let second_text = others
            .iter()
            .zip(first)
            .map(|(second, first)| second - first);
        let mut arena = Arena::default();
        Ok(Weights {
            words: table("embeddings.word_embeddings.weight", vocab_size)?,
            places,
            second_text: second_text.collect(),
            norm: self.norm("embeddings.LayerNorm")?,
            layers: (0..self.config.num_hidden_layers)
                .map(|index| self.layer(&mut arena, index))
                .collect::<Result<_, _>>()?,
        })
    }

    fn layer(&self, arena: &mut Arena, index: usize) -> Result<Layer, Error> {
        let (hidden, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |part: &str, outputs, inputs| -> Result<_, Error> {
            let weight = self.matrix(&name(&format!("{part}.weight")), outputs, inputs)?;
            let bias = self.vector(&name(&format!("{part}.bias")), outputs)?;
            Ok((weight, bias))
        };
        let norm = |part: &str| self.norm(&name(part));
        let heads = [
            linear("attention.self.query", hidden, hidden)?,
            linear("attention.self.key", hidden, hidden)?,
            linear("attention.self.value", hidden, hidden)?,
        ];
        let mut pack = |layers: &[_]| Linear::pack(arena, self.precision, layers);
        Ok(Layer {
            heads: pack(&heads)?,
            attended: pack(&[linear("attention.output.dense", hidden, hidden)?])?,
            attended_norm: norm("attention.output.LayerNorm")?,
            wide: pack(&[linear("intermediate.dense", wide, hidden)?])?,
            narrow: pack(&[linear("output.dense", hidden, wide)?])?,
            norm: norm("output.LayerNorm")?,
        })
    }

    /// Old files call scales and shifts by the letters of the paper.
    fn norm(&self, name: &str) -> Result<LayerNorm, Error> {
        let vector = |part: &str, letter: &str| {
            let old = format!("{name}.{letter}");
            let is_old = self.file.has_tensor(&format!("{}{old}", self.prefix));
            let name = if is_old {
                old
            } else {
                format!("{name}.{part}")
            };
            self.vector(&name, self.config.hidden_size)
        };
        let (scales, shifts) = (vector("weight", "gamma")?, vector("bias", "beta")?);
        let epsilon = self.config.layer_norm_eps;
        Ok(LayerNorm::new(scales, shifts, epsilon))
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let name = format!("{}{name}", self.prefix);
        self.file.matrix(&name, rows, columns)
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.file.vector(&format!("{}{name}", self.prefix), length)
    }
}
