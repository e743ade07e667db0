//! LoRA adapters (Hu et al. 2021, arXiv 2106.09685) in PEFT's format, applied without merging:
//! y = W x + scale · B (A x).
//!
//! [`PeftAdapter`] is what a file says, [`AdapterBase`] the model it must fit, [`Adapter`] what the
//! model computes with.

mod base;
mod config;
mod module_pattern;
mod peft;
mod tensor_name;

pub use base::AdapterBase;
pub use peft::PeftAdapter;

use kernels::DenseMatrix;

/// The linear layers of a transformer layer that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
pub struct LowRank {
    /// Rank × inputs.
    pub a: DenseMatrix,
    /// Outputs × rank, rows in the order of the base's weights.
    pub b: DenseMatrix,
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

    /// All modules, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::AttentionOutput,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// Its path below a layer in Hugging Face's Llama.
    pub fn path(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::AttentionOutput => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
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

    /// Highest rank of its modules.
    pub fn rank(&self) -> usize {
        self.changes()
            .map(|change| change.a.rows())
            .max()
            .unwrap_or(0)
    }

    /// Bytes of its matrices in memory.
    pub fn bytes(&self) -> u64 {
        self.changes()
            .map(|change| (change.a.bytes() + change.b.bytes()) as u64)
            .sum()
    }

    fn changes(&self) -> impl Iterator<Item = &LowRank> {
        self.layers.iter().flatten().flatten()
    }
}
