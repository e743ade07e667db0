//! The model by candle's operators: on an accelerator, and on the CPU as the reference in tests.
//!
//! - `weights`, `linear`: the tensors on the device
//! - `kv`: the pool of keys and values, and attention over it
//! - `forward`: one step over a batch plan

mod forward;
mod kv;
mod linear;
mod weights;

use candle_core::Device;

use crate::error::Error;
use crate::models::BatchPlan;
use crate::models::llama::shape::Shape;
use crate::models::llama::tensors::Tensors;
use kv::DeviceKv;
use weights::Weights;

/// Weights, keys and values on a device.
pub(super) struct DeviceModel {
    weights: Weights,
    /// By layer.
    kv: Vec<DeviceKv>,
    device: Device,
}

impl DeviceModel {
    pub(super) fn read(
        tensors: &Tensors<'_>,
        shape: &Shape,
        device: Device,
    ) -> Result<Self, Error> {
        Ok(Self {
            weights: Weights::read(tensors, shape, &device)?,
            kv: Vec::new(),
            device,
        })
    }

    pub(super) fn reserve_kv(&mut self, blocks: usize, shape: &Shape) -> Result<(), Error> {
        let layer = |_| DeviceKv::new(blocks, shape.heads, &self.device);
        self.kv = (0..shape.layers).map(layer).collect::<Result<_, _>>()?;
        Ok(())
    }

    pub(super) fn forward(
        &mut self,
        shape: &Shape,
        plan: &BatchPlan<'_>,
    ) -> Result<Vec<f32>, Error> {
        forward::run(self, shape, plan)
    }
}
