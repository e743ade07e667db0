//! The model on the CPU: plain slices, packed weights, a few parallel regions per layer.
//!
//! - `weights`: the tensors, packed
//! - `forward`: one step over a batch plan

mod forward;
mod weights;

use crate::error::Error;
use crate::models::BatchPlan;
use crate::models::cpu::{HostKv, Level, Pool};
use crate::models::llama::Precision;
use crate::models::llama::shape::Shape;
use crate::models::llama::tensors::Tensors;
use forward::{Buffers, Step};
use weights::Weights;

/// Weights, keys and values, and the memory of a step.
pub(super) struct HostModel {
    weights: Weights,
    /// By layer.
    kv: Vec<HostKv>,
    buffers: Buffers,
    precision: Precision,
    level: Level,
    pool: &'static Pool,
}

impl HostModel {
    pub(super) fn read(
        tensors: &Tensors<'_>,
        shape: &Shape,
        precision: Precision,
    ) -> Result<Self, Error> {
        let level = Level::best();
        tracing::debug!(?level, "kernels chosen");
        Ok(Self {
            weights: Weights::read(tensors, shape, precision)?,
            kv: Vec::new(),
            buffers: Buffers::default(),
            precision,
            level,
            pool: Pool::global(),
        })
    }

    pub(super) fn reserve_kv(&mut self, blocks: usize, shape: &Shape) {
        let layer = |_| match self.precision {
            Precision::Fast => HostKv::half(blocks, shape.heads),
            Precision::Exact => HostKv::full(blocks, shape.heads),
        };
        self.kv = (0..shape.layers).map(layer).collect();
    }

    /// Bytes of a key or value.
    pub(super) fn stored_bytes(&self) -> usize {
        match self.precision {
            Precision::Fast => size_of::<u16>(),
            Precision::Exact => size_of::<f32>(),
        }
    }

    pub(super) fn forward(
        &mut self,
        shape: &Shape,
        plan: &BatchPlan<'_>,
    ) -> Result<Vec<f32>, Error> {
        let step = Step {
            plan,
            shape,
            weights: &self.weights,
            level: self.level,
            pool: self.pool,
        };
        step.run(&mut self.kv, &mut self.buffers)
    }
}
