//! One step over a batch: the tokens of all sequences are rows of the same matrices, without padding.

use kernels::{EqualHeads, Finish, Level, Pool, attend_sequences, filled};

use super::directory::Config;
use super::linear::Rounded;
use super::weights::{Layer, Weights};

/// What a step reads.
pub(super) struct Step<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights,
    /// The token behind which the second text of a sequence begins; None where sequences are single texts.
    pub separator: Option<u32>,
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
    /// What `read` makes of each sequence: of the vectors of its tokens, one of `width` values after the other. `pause`
    /// is called before each layer.
    pub(super) fn run(
        &self,
        batch: &[&[u32]],
        buffers: &mut Buffers,
        pause: &mut dyn FnMut(),
        read: impl Fn(&[f32]) -> Vec<f32>,
    ) -> Vec<Vec<f32>> {
        self.look_up(batch, buffers);
        let lengths: Vec<usize> = batch.iter().map(|tokens| tokens.len()).collect();
        for layer in &self.weights.layers {
            pause();
            self.attend(layer, &lengths, buffers);
            self.feed_forward(layer, buffers);
        }
        let mut rest = buffers.x.as_slice();
        let vector = |length: &usize| {
            let (rows, others) = rest.split_at(length * self.width());
            rest = others;
            read(rows)
        };
        lengths.iter().map(vector).collect()
    }

    /// Values of a row of `x`.
    fn width(&self) -> usize {
        filled(self.config.hidden_size)
    }

    /// The vectors of the tokens; all buffers get their sizes.
    fn look_up(&self, batch: &[&[u32]], buffers: &mut Buffers) {
        let (width, hidden) = (self.width(), self.config.hidden_size);
        let tokens: usize = batch.iter().map(|tokens| tokens.len()).sum();
        buffers.x.resize(tokens * width, 0.0);
        buffers.heads.resize(tokens * 3 * width, 0.0);
        buffers.attended.resize(tokens * width, 0.0);
        let wide = filled(self.config.intermediate_size);
        buffers.wide.resize(tokens * wide, 0.0);
        let mut rows = buffers.x.chunks_exact_mut(width);
        for tokens in batch {
            let places = self.weights.places.chunks_exact(hidden);
            let mut is_second = false;
            for ((token, place), x) in tokens.iter().zip(places).zip(&mut rows) {
                let x = &mut x[..hidden];
                self.weights.words.read_row(*token as usize, x);
                x.iter_mut().zip(place).for_each(|(x, place)| *x += place);
                if is_second {
                    let second = self.weights.second_text.iter();
                    x.iter_mut()
                        .zip(second)
                        .for_each(|(x, second)| *x += second);
                }
                is_second |= self.separator == Some(*token);
            }
        }
        self.weights
            .norm
            .apply(self.pool, self.level, &mut buffers.x);
    }

    fn attend(&self, layer: &Layer, lengths: &[usize], buffers: &mut Buffers) {
        let (pool, level) = (self.pool, self.level);
        let config = &self.config;
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
        let activate = Finish::Activate(self.config.hidden_act.into());
        layer.wide.apply(threads, x, rounded, wide, activate);
        layer.narrow.apply(threads, wide, rounded, x, Finish::Add);
        layer.norm.apply(self.pool, self.level, x);
    }
}
