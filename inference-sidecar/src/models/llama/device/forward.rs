//! One step over a batch plan: all tokens of all sequences are rows of the same matrices.

use candle_core::Tensor;
use candle_nn::ops::{rms_norm, silu};

use super::DeviceModel;
use super::kv::{DeviceKv, Projections};
use super::linear::low_rank;
use super::weights::{Layer, Weights};
use crate::error::Error;
use crate::models::llama::rotary::Angles;
use crate::models::llama::shape::Shape;
use crate::models::{BatchPlan, Module};

/// Reads the tokens of the plan; returns the scores it asks for.
pub(super) fn run(
    model: &mut DeviceModel,
    shape: &Shape,
    plan: &BatchPlan<'_>,
) -> Result<Vec<f32>, Error> {
    let positions: Vec<usize> = plan
        .sequences
        .iter()
        .flat_map(|sequence| (sequence.position..).take(sequence.tokens.len()))
        .collect();
    let step = Step {
        plan,
        shape,
        weights: &model.weights,
        angles: shape.rotary.angles(&positions, &model.device)?,
    };
    let tokens: Vec<u32> = plan
        .sequences
        .iter()
        .flat_map(|s| s.tokens)
        .copied()
        .collect();
    let mut x = model.weights.embedding.look_up(&tokens, &model.device)?;
    for (index, layer) in model.weights.layers.iter().enumerate() {
        if (plan.is_abandoned)() {
            return Err(Error::Cancelled);
        }
        x = (&x + step.attend(index, layer, &mut model.kv, &x)?)?;
        x = (&x + step.feed_forward(index, layer, &x)?)?;
    }
    Ok(step.scores(&x)?)
}

struct Step<'a> {
    plan: &'a BatchPlan<'a>,
    shape: &'a Shape,
    weights: &'a Weights,
    angles: Angles,
}

impl Step<'_> {
    fn attend(
        &self,
        index: usize,
        layer: &Layer,
        pool: &mut [DeviceKv],
        x: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let heads = self.shape.heads;
        let x = rms_norm(x, &layer.attention_norm, self.shape.norm_epsilon)?;
        let project = |module| self.project(index, layer, module, &x);
        let new = Projections {
            queries: self.angles.turn(&project(Module::Query)?, heads.count)?,
            keys: self.angles.turn(&project(Module::Key)?, heads.kv)?,
            values: project(Module::Value)?,
        };
        let attended = pool[index].attend(self.plan, &new)?;
        self.project(index, layer, Module::AttentionOutput, &attended)
    }

    fn feed_forward(&self, index: usize, layer: &Layer, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = rms_norm(x, &layer.feed_forward_norm, self.shape.norm_epsilon)?;
        let gate = silu(&self.project(index, layer, Module::Gate, &x)?)?;
        let gated = (gate * self.project(index, layer, Module::Up, &x)?)?;
        self.project(index, layer, Module::Down, &gated)
    }

    /// The linear layer, and for each sequence what its adapter adds.
    fn project(
        &self,
        index: usize,
        layer: &Layer,
        module: Module,
        x: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let base = layer.linear(module).apply(x)?;
        if self.plan.sequences.iter().all(|s| s.adapter.is_none()) {
            return Ok(base);
        }
        let mut parts = Vec::with_capacity(self.plan.sequences.len());
        for (segment, adapter) in self.plan.adapter_segments() {
            let rows = base.narrow(0, segment.start, segment.len())?;
            let change = adapter.and_then(|adapter| adapter.change(index, module));
            parts.push(match change {
                Some(change) => {
                    let x = x.narrow(0, segment.start, segment.len())?;
                    (rows + low_rank(change, &x)?)?
                }
                None => rows,
            });
        }
        Tensor::cat(&parts, 0)
    }

    /// Only wanted rows meet the large output matrix.
    fn scores(&self, x: &Tensor) -> candle_core::Result<Vec<f32>> {
        let wanted: Vec<u32> = self
            .plan
            .wanted_rows()
            .into_iter()
            .map(|row| row as u32)
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let rows = x.index_select(&Tensor::new(wanted, x.device())?, 0)?;
        let rows = rms_norm(&rows, &self.weights.output_norm, self.shape.norm_epsilon)?;
        self.weights.output.apply(&rows)?.flatten_all()?.to_vec1()
    }
}
