//! The model on the CPU: plain slices, packed weights, a few parallel regions per layer.
//!
//! - `weights`: the tensors, packed
//! - `forward`: one step over a batch plan

mod forward;
mod weights;

use kernels::{HostKv, Level, Pool};

use crate::error::Error;
use crate::models::BatchPlan;
use crate::models::llama::Precision;
use crate::models::llama::shape::Shape;
use crate::models::llama::tensors::Tensors;
use forward::{Buffers, Step};
use weights::Weights;

/// Weights, keys and values, and the memory of a step.
pub(super) struct HostModel {
    weights: Weights,
    /// None until its size is known.
    kv: Option<HostKv>,
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
            kv: None,
            buffers: Buffers::default(),
            precision,
            level,
            pool: Pool::global(),
        })
    }

    pub(super) fn reserve_kv(&mut self, blocks: usize, shape: &Shape) -> Result<(), Error> {
        let kv = HostKv::new(
            self.precision.kv_format(),
            shape.layers,
            blocks,
            shape.heads,
        )?;
        self.kv = Some(kv);
        Ok(())
    }

    /// Bytes of a block of keys and values.
    pub(super) fn block_bytes(&self, shape: &Shape) -> usize {
        let format = self.precision.kv_format();
        format.block_bytes(shape.layers, shape.heads)
    }

    pub(super) fn forward(
        &mut self,
        shape: &Shape,
        plan: &BatchPlan<'_>,
        scores: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let step = Step {
            plan,
            shape,
            weights: &self.weights,
            level: self.level,
            pool: self.pool,
        };
        let kv = self.kv.as_mut().expect("blocks are reserved first");
        step.run(kv, &mut self.buffers, scores)
    }
}
