//! One step over a batch: the tokens of all sequences are rows of the same matrices, without padding.

use kernels::{EqualHeads, Finish, Level, Pool, attend_sequences, filled};

use super::directory::{BertSettings, Pooling};
use super::linear::Rounded;
use super::weights::{Layer, Weights};

/// The least length that a vector is divided by, as in PyTorch.
const LENGTH_MIN: f32 = 1e-12;

/// What a step reads.
pub(super) struct Step<'a> {
    pub settings: &'a BertSettings,
    pub weights: &'a Weights,
    pub level: Level,
    pub pool: &'static Pool,
}

/// The memory of a step, kept for the next one: tokens × values filled up to whole vectors.
#[derive(Default)]
pub(super) struct Buffers {
    /// What the layers add to.
    x: Vec<f32>,
    /// Queries, keys and values.
    heads: Vec<f32>,
    attended: Vec<f32>,
    wide: Vec<f32>,
    /// What a linear layer reads.
    rounded: Rounded,
}

impl Step<'_> {
    /// One vector for each sequence.
    pub(super) fn run(&self, batch: &[&[u32]], buffers: &mut Buffers) -> Vec<Vec<f32>> {
        self.look_up(batch, buffers);
        let lengths: Vec<usize> = batch.iter().map(|tokens| tokens.len()).collect();
        for layer in &self.weights.layers {
            self.attend(layer, &lengths, buffers);
            self.feed_forward(layer, buffers);
        }
        let width = self.width();
        let mut rest = buffers.x.as_slice();
        let vector = |length: &usize| {
            let (rows, others) = rest.split_at(length * width);
            rest = others;
            self.pool(rows)
        };
        lengths.iter().map(vector).collect()
    }

    /// Values of a row of `x`.
    fn width(&self) -> usize {
        filled(self.settings.config.hidden_size)
    }

    /// The vectors of the tokens; all buffers get their sizes.
    fn look_up(&self, batch: &[&[u32]], buffers: &mut Buffers) {
        let (width, hidden) = (self.width(), self.settings.config.hidden_size);
        let tokens: usize = batch.iter().map(|tokens| tokens.len()).sum();
        buffers.x.resize(tokens * width, 0.0);
        buffers.heads.resize(tokens * 3 * width, 0.0);
        buffers.attended.resize(tokens * width, 0.0);
        let wide = filled(self.settings.config.intermediate_size);
        buffers.wide.resize(tokens * wide, 0.0);
        let places = || self.weights.places.chunks_exact(hidden);
        let tokens = batch.iter().flat_map(|tokens| tokens.iter().zip(places()));
        for ((token, place), x) in tokens.zip(buffers.x.chunks_exact_mut(width)) {
            let x = &mut x[..hidden];
            self.weights.words.read_row(*token as usize, x);
            x.iter_mut().zip(place).for_each(|(x, place)| *x += place);
        }
        self.weights
            .norm
            .apply(self.pool, self.level, &mut buffers.x);
    }

    fn attend(&self, layer: &Layer, lengths: &[usize], buffers: &mut Buffers) {
        let (pool, level) = (self.pool, self.level);
        let config = &self.settings.config;
        let heads = EqualHeads {
            count: config.num_attention_heads,
            size: config.hidden_size / config.num_attention_heads,
        };
        let Buffers {
            x,
            heads: of_heads,
            attended,
            rounded,
            ..
        } = buffers;
        let threads = (pool, level);
        layer
            .heads
            .apply(threads, x, rounded, of_heads, Finish::Replace);
        attend_sequences(pool, level, heads, lengths, of_heads, attended);
        layer
            .attended
            .apply(threads, attended, rounded, x, Finish::Add);
        layer.attended_norm.apply(pool, level, x);
    }

    fn feed_forward(&self, layer: &Layer, buffers: &mut Buffers) {
        let Buffers {
            x, wide, rounded, ..
        } = buffers;
        let threads = (self.pool, self.level);
        let activate = Finish::Activate(self.settings.config.hidden_act.into());
        layer.wide.apply(threads, x, rounded, wide, activate);
        layer.narrow.apply(threads, wide, rounded, x, Finish::Add);
        layer.norm.apply(self.pool, self.level, x);
    }

    /// The vector of a sequence from those of its tokens.
    fn pool(&self, rows: &[f32]) -> Vec<f32> {
        let (width, hidden) = (self.width(), self.settings.config.hidden_size);
        let mut vector = rows[..hidden].to_vec();
        if self.settings.pooling == Pooling::Mean {
            for row in rows.chunks_exact(width).skip(1) {
                vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let count = (rows.len() / width) as f32;
            vector.iter_mut().for_each(|value| *value /= count);
        }
        if self.settings.normalizes {
            let squares: f32 = vector.iter().map(|value| value * value).sum();
            let length = squares.sqrt();
            // What is not a number stays so.
            let length = if length < LENGTH_MIN {
                LENGTH_MIN
            } else {
                length
            };
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }
}
