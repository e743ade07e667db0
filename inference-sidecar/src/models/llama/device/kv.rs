//! The pool of keys and values on a device, and attention over the blocks of a sequence.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use kernels::Heads;

use crate::models::{BatchPlan, KV_BLOCK_TOKENS, SequencePlan};

/// Keys and values of one layer: slot × (kv heads · head size); a block is 16 slots in a row.
pub(super) struct DeviceKv {
    keys: Tensor,
    values: Tensor,
    heads: Heads,
}

/// Queries, keys and values of the tokens of a step: tokens × (heads · head size).
pub(super) struct Projections {
    pub queries: Tensor,
    pub keys: Tensor,
    pub values: Tensor,
}

impl DeviceKv {
    pub(super) fn new(blocks: usize, heads: Heads, device: &Device) -> candle_core::Result<Self> {
        let shape = (blocks * KV_BLOCK_TOKENS, heads.kv * heads.size);
        Ok(Self {
            keys: Tensor::zeros(shape, DType::F32, device)?,
            values: Tensor::zeros(shape, DType::F32, device)?,
            heads,
        })
    }

    /// Stores keys and values, then lets each token see its sequence up to itself.
    pub(super) fn attend(
        &self,
        plan: &BatchPlan<'_>,
        new: &Projections,
    ) -> candle_core::Result<Tensor> {
        let device = new.queries.device();
        let slots: Vec<u32> = plan
            .sequences
            .iter()
            .flat_map(|sequence| positions(sequence).map(|position| slot(sequence, position)))
            .collect();
        let count = slots.len();
        let slots = Tensor::from_vec(slots, (count, 1), device)?;
        let slots = slots.broadcast_as(new.keys.shape())?.contiguous()?;
        self.keys.scatter_set(&slots, &new.keys.contiguous()?, 0)?;
        self.values
            .scatter_set(&slots, &new.values.contiguous()?, 0)?;
        let mut attended = Vec::with_capacity(plan.sequences.len());
        let mut first = 0;
        for sequence in &plan.sequences {
            let tokens = sequence.tokens.len();
            let queries = new.queries.narrow(0, first, tokens)?;
            attended.push(self.attend_sequence(sequence, &queries)?);
            first += tokens;
        }
        Tensor::cat(&attended, 0)
    }

    fn attend_sequence(
        &self,
        sequence: &SequencePlan<'_>,
        queries: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let Heads { count, kv, size } = self.heads;
        let tokens = sequence.tokens.len();
        let seen = sequence.position + tokens;
        let slots: Vec<u32> = (0..seen).map(|position| slot(sequence, position)).collect();
        let slots = Tensor::new(slots, queries.device())?;
        let gather = |pool: &Tensor| {
            let rows = pool.index_select(&slots, 0)?.reshape((seen, kv, size))?;
            rows.transpose(0, 1)?.contiguous()
        };
        let (keys, values) = (gather(&self.keys)?, gather(&self.values)?);
        // All query heads that share a head of keys and values are rows of one product.
        let rows = count / kv * tokens;
        let queries = queries.reshape((tokens, count, size))?.transpose(0, 1)?;
        let queries = queries.contiguous()?.reshape((kv, rows, size))?;
        let scale = 1.0 / (size as f64).sqrt();
        let scores = (queries.matmul(&keys.transpose(1, 2)?)? * scale)?;
        let scores = scores.reshape((count, tokens, seen))?;
        let scores =
            scores.broadcast_add(&causal_mask(sequence.position, tokens, queries.device())?)?;
        let weights = softmax_last_dim(&scores)?.reshape((kv, rows, seen))?;
        weights
            .matmul(&values)?
            .reshape((count, tokens, size))?
            .transpose(0, 1)?
            .contiguous()?
            .flatten_from(D::Minus2)
    }
}

fn positions(sequence: &SequencePlan<'_>) -> std::ops::Range<usize> {
    sequence.position..sequence.position + sequence.tokens.len()
}

fn slot(sequence: &SequencePlan<'_>, position: usize) -> u32 {
    let block = sequence.blocks[position / KV_BLOCK_TOKENS].0;
    block * KV_BLOCK_TOKENS as u32 + (position % KV_BLOCK_TOKENS) as u32
}

/// Tokens × everything seen after the step: minus infinity where a token would see a later one.
fn causal_mask(position: usize, tokens: usize, device: &Device) -> candle_core::Result<Tensor> {
    let seen = position + tokens;
    let mask = (0..tokens).flat_map(|token| {
        (0..seen).map(move |other| match other <= position + token {
            true => 0f32,
            false => f32::NEG_INFINITY,
        })
    });
    Tensor::from_vec(mask.collect(), (tokens, seen), device)
}
