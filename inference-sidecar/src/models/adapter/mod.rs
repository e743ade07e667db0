//! LoRA adapters (Hu et al. 2021, arXiv 2106.09685) in PEFT's format, applied without merging:
//! y = W x + scale · B (A x).

use crate::models::Matrix;

/// The linear layers of a transformer layer that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    Query,
    Key,
    Value,
    AttentionOutput,
    Gate,
    Up,
    Down,
}

/// The change of one linear layer.
#[derive(Clone)]
pub struct LowRank {
    /// Rank × inputs, f32.
    pub a: Matrix,
    /// Outputs × rank, f32, rows in the order of the base's weights.
    pub b: Matrix,
    /// alpha / rank, or alpha / sqrt(rank) when rank-stabilised.
    pub scale: f32,
}

/// An adapter that fits one model.
pub struct Adapter {
    /// Per transformer layer and [`Module`].
    layers: Vec<[Option<LowRank>; Module::COUNT]>,
}

impl Module {
    /// Number of modules of a layer.
    pub const COUNT: usize = 7;
}

impl Adapter {
    /// `layers` has one entry per transformer layer of the base.
    pub fn new(layers: Vec<[Option<LowRank>; Module::COUNT]>) -> Self {
        Self { layers }
    }

    /// The change of `module` in `layer`, if it has one.
    pub fn change(&self, layer: usize, module: Module) -> Option<&LowRank> {
        self.layers.get(layer)?[module as usize].as_ref()
    }
}

/// What an adapter must fit.
#[derive(Debug, Clone)]
pub struct AdapterBase {
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub permuted_heads: bool,
}
