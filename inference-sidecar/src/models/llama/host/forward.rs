//! One step over a batch plan: all tokens of all sequences are rows of the same matrices.

use kernels::{
    Attention, HostKv, Level, Pool, Product, QuantizedRows, Span, Turns, Write, float_product,
    gate, make_rows, multiply, rms_norm, turn,
};

use super::weights::{Layer, Linear, Weights};
use crate::error::Error;
use crate::models::llama::shape::Shape;
use crate::models::{BatchPlan, LowRank, Module};

/// What a step reads.
pub(super) struct Step<'a> {
    pub plan: &'a BatchPlan<'a>,
    pub shape: &'a Shape,
    pub weights: &'a Weights,
    pub level: Level,
    pub pool: &'static Pool,
}

/// The memory of a step, kept for the next one.
#[derive(Default)]
pub(super) struct Buffers {
    /// Tokens × hidden: what the layers add to.
    x: Vec<f32>,
    normed: Vec<f32>,
    quantized: QuantizedRows,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attention: Attention,
    attended: Vec<f32>,
    gates: Vec<f32>,
    ups: Vec<f32>,
}

/// A linear layer, where its results go, and whether they are added to what is there.
type Target<'a> = (Module, &'a mut [f32], Write);

impl Step<'_> {
    /// Returns the scores that the plan asks for.
    pub(super) fn run(&self, kv: &mut HostKv, buffers: &mut Buffers) -> Result<Vec<f32>, Error> {
        let spans: Vec<Span<'_>> = self.spans().collect();
        buffers.attention.plan(self.pool, self.shape.heads, &spans);
        let positions = spans
            .iter()
            .flat_map(|span| span.position..span.position + span.tokens);
        let turns = self.shape.rotary.turns(positions);
        self.look_up(buffers);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if (self.plan.is_abandoned)() {
                return Err(Error::Cancelled);
            }
            let layer = (index, layer);
            self.project_heads(layer, buffers);
            self.attend(index, kv, &turns, buffers);
            self.add_attended(layer, buffers);
            self.feed_forward(layer, buffers);
        }
        Ok(self.scores(buffers))
    }

    fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        self.plan.sequences.iter().map(|sequence| Span {
            position: sequence.position,
            tokens: sequence.tokens.len(),
            blocks: sequence.blocks,
        })
    }

    /// The vectors of the tokens; all buffers get their sizes.
    fn look_up(&self, buffers: &mut Buffers) {
        let hidden = self.shape.hidden;
        let tokens = || self.plan.sequences.iter().flat_map(|s| s.tokens);
        let count = tokens().count();
        let (width, kv_width) = self.shape.head_widths();
        buffers.x.resize(count * hidden, 0.0);
        buffers.normed.resize(count * hidden, 0.0);
        buffers.queries.resize(count * width, 0.0);
        buffers.attended.resize(count * width, 0.0);
        buffers.keys.resize(count * kv_width, 0.0);
        buffers.values.resize(count * kv_width, 0.0);
        buffers.gates.resize(count * self.shape.feed_forward, 0.0);
        buffers.ups.resize(count * self.shape.feed_forward, 0.0);
        for (&token, values) in tokens().zip(buffers.x.chunks_exact_mut(hidden)) {
            self.weights.embedding.read_row(token as usize, values);
        }
    }

    fn project_heads(&self, layer: (usize, &Layer), buffers: &mut Buffers) {
        let Buffers {
            x,
            normed,
            quantized,
            queries,
            keys,
            values,
            ..
        } = buffers;
        let targets = vec![
            (Module::Query, queries.as_mut_slice(), Write::Replace),
            (Module::Key, keys.as_mut_slice(), Write::Replace),
            (Module::Value, values.as_mut_slice(), Write::Replace),
        ];
        let norm = self.norm(x, &layer.1.attention_norm);
        self.project(layer, (normed, quantized), norm, targets);
    }

    fn attend(&self, layer: usize, kv: &mut HostKv, turns: &Turns, buffers: &mut Buffers) {
        let (pool, level) = (self.pool, self.level);
        let (width, kv_width) = self.shape.head_widths();
        turn(pool, level, turns, &mut buffers.queries, width);
        turn(pool, level, turns, &mut buffers.keys, kv_width);
        let attention = &mut buffers.attention;
        attention.write((pool, level), kv, layer, &buffers.keys, &buffers.values);
        attention.attend((pool, level), kv, layer, &buffers.queries);
    }

    fn add_attended(&self, layer: (usize, &Layer), buffers: &mut Buffers) {
        let Buffers {
            x,
            quantized,
            attention,
            attended,
            ..
        } = buffers;
        let targets = vec![(Module::AttentionOutput, x.as_mut_slice(), Write::Add)];
        let (level, heads) = (self.level, self.shape.heads);
        let result = |row: usize, results: &mut [f32]| {
            attention.result(level, heads, row, results);
        };
        self.project(layer, (attended, quantized), result, targets);
    }

    fn feed_forward(&self, layer: (usize, &Layer), buffers: &mut Buffers) {
        let Buffers {
            x,
            normed,
            quantized,
            gates,
            ups,
            ..
        } = buffers;
        let targets = vec![
            (Module::Gate, gates.as_mut_slice(), Write::Replace),
            (Module::Up, ups.as_mut_slice(), Write::Replace),
        ];
        let norm = self.norm(x, &layer.1.feed_forward_norm);
        self.project(layer, (normed, quantized), norm, targets);
        let (level, width) = (self.level, self.shape.feed_forward);
        let targets = vec![(Module::Down, x.as_mut_slice(), Write::Add)];
        let gated = |row: usize, gates: &mut [f32]| {
            gate(level, gates, &ups[row * width..][..width]);
        };
        self.project(layer, (gates, quantized), gated, targets);
    }

    /// Normalises a row of `rows`, by its number.
    fn norm<'b>(
        &self,
        rows: &'b [f32],
        weights: &'b [f32],
    ) -> impl Fn(usize, &mut [f32]) + Sync + use<'b> {
        let (level, epsilon) = (self.level, self.shape.norm_epsilon);
        move |row, results| {
            let row = &rows[row * weights.len()..][..weights.len()];
            rms_norm(level, row, weights, epsilon, results);
        }
    }

    /// Linear layers over the rows that `make` makes, and for each sequence what its adapter adds.
    fn project(
        &self,
        (index, layer): (usize, &Layer),
        (rows, quantized): (&mut [f32], &mut QuantizedRows),
        make: impl Fn(usize, &mut [f32]) + Sync,
        mut targets: Vec<Target<'_>>,
    ) {
        let linears = targets
            .iter_mut()
            .map(|(module, results, write)| (layer.linear(*module), &mut **results, *write));
        self.multiply((&mut *rows, quantized), make, linears.collect());
        for (module, results, _) in targets {
            self.adapt(index, module, rows, results);
        }
    }

    /// All layers have as many inputs.
    fn multiply(
        &self,
        (rows, quantized): (&mut [f32], &mut QuantizedRows),
        make: impl Fn(usize, &mut [f32]) + Sync,
        linears: Vec<(&Linear, &mut [f32], Write)>,
    ) {
        let columns = linears[0].0.columns();
        let is_packed = |linear: &(&Linear, _, _)| matches!(linear.0, Linear::Packed(_));
        match linears.iter().any(is_packed) {
            true => quantized.set_made(self.pool, self.level, rows, columns, make),
            false => make_rows(self.pool, rows, columns, make),
        }
        let mut products = Vec::with_capacity(linears.len());
        for (linear, results, write) in linears {
            match linear {
                Linear::Packed(matrix) => products.push(Product {
                    matrix,
                    results,
                    write,
                }),
                Linear::Unpacked(matrix) => {
                    float_product(self.pool, matrix, rows, results, write, 1.0);
                }
            }
        }
        multiply(self.pool, self.level, quantized, products);
    }

    /// Adds scale · B (A x) for the rows of sequences with an adapter.
    fn adapt(&self, layer: usize, module: Module, rows: &[f32], results: &mut [f32]) {
        let (outputs, inputs) = self.shape.of_module(module);
        for (segment, adapter) in self.plan.adapter_segments() {
            let Some(change) = adapter.and_then(|adapter| adapter.change(layer, module)) else {
                continue;
            };
            let LowRank { a, b, scale } = change;
            let mut narrow = vec![0.0; segment.len() * a.rows];
            let rows = &rows[segment.start * inputs..segment.end * inputs];
            float_product(self.pool, a, rows, &mut narrow, Write::Replace, 1.0);
            let results = &mut results[segment.start * outputs..segment.end * outputs];
            float_product(self.pool, b, &narrow, results, Write::Add, *scale);
        }
    }

    /// Only wanted rows meet the large output matrix.
    fn scores(&self, buffers: &mut Buffers) -> Vec<f32> {
        let hidden = self.shape.hidden;
        let wanted = self.plan.wanted_rows();
        if wanted.is_empty() {
            return Vec::new();
        }
        let Buffers {
            x,
            normed,
            quantized,
            ..
        } = buffers;
        let rows: Vec<f32> = wanted
            .iter()
            .flat_map(|row| &x[row * hidden..][..hidden])
            .copied()
            .collect();
        normed.resize(rows.len(), 0.0);
        let mut scores = vec![0.0; wanted.len() * self.shape.vocabulary];
        let linear = (&*self.weights.output, scores.as_mut_slice(), Write::Replace);
        let norm = self.norm(&rows, &self.weights.output_norm);
        self.multiply((normed, quantized), norm, vec![linear]);
        scores
    }
}
