//! One step over a batch plan: all tokens of all sequences are rows of the same matrices.

use std::ops::Range;

use kernels::{
    Attention, HostKv, Level, Pool, Product, QuantizedRows, Span, Turns, Write, gate, make_rows,
    multiply, rms_norm, turn,
};
use smallvec::SmallVec;

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
    turns: Turns,
    attention: Attention,
    attended: Vec<f32>,
    gates: Vec<f32>,
    ups: Vec<f32>,
    narrow: Vec<f32>,
}

/// A linear layer, where its results go, and whether they are added to what is there.
type Target<'a> = (Module, &'a mut [f32], Write);

/// What linear layers read.
struct Rows<'a> {
    rows: &'a mut [f32],
    quantized: &'a mut QuantizedRows,
    /// What adapters' matrices A make of the rows.
    narrow: &'a mut Vec<f32>,
}

/// Those of a few adapters do without an allocation.
type Products<'a> = SmallVec<[Product<'a>; 8]>;

impl Step<'_> {
    /// Replaces `scores` by those that the plan asks for.
    pub(super) fn run(
        &self,
        kv: &mut HostKv,
        buffers: &mut Buffers,
        scores: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let spans: Vec<Span<'_>> = self.spans().collect();
        buffers.attention.plan(self.pool, self.shape.heads, &spans);
        let positions = spans
            .iter()
            .flat_map(|span| span.position..span.position + span.tokens);
        self.shape.rotary.turn_to(&mut buffers.turns, positions);
        self.look_up(buffers);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if (self.plan.is_abandoned)() {
                return Err(Error::Cancelled);
            }
            let layer = (index, layer);
            self.project_heads(layer, buffers);
            self.attend(index, kv, buffers);
            self.add_attended(layer, buffers);
            self.feed_forward(layer, buffers);
        }
        self.scores(buffers, scores);
        Ok(())
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
            narrow,
            queries,
            keys,
            values,
            ..
        } = buffers;
        let targets = [
            (Module::Query, queries.as_mut_slice(), Write::Replace),
            (Module::Key, keys.as_mut_slice(), Write::Replace),
            (Module::Value, values.as_mut_slice(), Write::Replace),
        ];
        let norm = self.norm(x, &layer.1.attention_norm);
        let rows = Rows {
            rows: normed,
            quantized,
            narrow,
        };
        self.project(layer, rows, norm, targets);
    }

    fn attend(&self, layer: usize, kv: &mut HostKv, buffers: &mut Buffers) {
        let turns = &buffers.turns;
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
            narrow,
            attention,
            attended,
            ..
        } = buffers;
        let targets = [(Module::AttentionOutput, x.as_mut_slice(), Write::Add)];
        let (level, heads) = (self.level, self.shape.heads);
        let result = |row: usize, results: &mut [f32]| {
            attention.result(level, heads, row, results);
        };
        let rows = Rows {
            rows: attended,
            quantized,
            narrow,
        };
        self.project(layer, rows, result, targets);
    }

    fn feed_forward(&self, layer: (usize, &Layer), buffers: &mut Buffers) {
        let Buffers {
            x,
            normed,
            quantized,
            narrow,
            gates,
            ups,
            ..
        } = buffers;
        let targets = [
            (Module::Gate, gates.as_mut_slice(), Write::Replace),
            (Module::Up, ups.as_mut_slice(), Write::Replace),
        ];
        let norm = self.norm(x, &layer.1.feed_forward_norm);
        let rows = Rows {
            rows: normed,
            quantized,
            narrow,
        };
        self.project(layer, rows, norm, targets);
        let (level, width) = (self.level, self.shape.feed_forward);
        let targets = [(Module::Down, x.as_mut_slice(), Write::Add)];
        let gated = |row: usize, gates: &mut [f32]| {
            gate(level, gates, &ups[row * width..][..width]);
        };
        let rows = Rows {
            rows: gates,
            quantized,
            narrow,
        };
        self.project(layer, rows, gated, targets);
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

    /// Linear layers over the rows that `make` makes, and for each sequence what its adapter adds:
    /// scale · B (A x).
    ///
    /// All layers have as many inputs.
    fn project<const N: usize>(
        &self,
        (index, layer): (usize, &Layer),
        Rows {
            rows,
            quantized,
            narrow,
        }: Rows<'_>,
        make: impl Fn(usize, &mut [f32]) + Sync,
        mut targets: [Target<'_>; N],
    ) {
        let inputs = layer.linear(targets[0].0).columns();
        let linear = |(module, ..): &Target<'_>| layer.linear(*module);
        self.make(rows, quantized, inputs, make, targets.iter().map(linear));
        let modules = targets.each_ref().map(|(module, ..)| *module);
        let ranks = || {
            modules
                .iter()
                .flat_map(|module| self.changes(index, *module))
        };
        let length = ranks().map(|(rows, change)| rows.len() * change.a.rows());
        narrow.resize(length.sum(), 0.0);
        let mut products = Products::new();
        let mut rest = narrow.as_mut_slice();
        for (segment, change) in ranks() {
            let part = rest.split_off_mut(..segment.len() * change.a.rows());
            let rows = &rows[segment.start * inputs..segment.end * inputs];
            let part = part.expect("it is as long as all parts");
            products.push(Product::dense(&change.a, rows, part, Write::Replace));
        }
        for (module, results, write) in &mut targets {
            products.push(product(
                layer.linear(*module),
                rows,
                quantized,
                results,
                *write,
            ));
        }
        multiply(self.pool, self.level, &mut products);
        drop(products);
        if !narrow.is_empty() {
            self.widen(index, narrow, targets);
        }
    }

    /// Adds scale · B y for what `project` has made of the adapters' A, which `narrow` holds.
    fn widen<const N: usize>(&self, index: usize, narrow: &mut [f32], targets: [Target<'_>; N]) {
        let mut products = Products::new();
        let mut rest = narrow;
        for (module, results, _) in targets {
            let (outputs, _) = self.shape.of_module(module);
            let (mut results, mut first) = (results, 0);
            for (segment, LowRank { a, b, scale }) in self.changes(index, module) {
                let part = rest.split_off_mut(..segment.len() * a.rows());
                let part = part.expect("it is as long as all parts");
                part.iter_mut().for_each(|value| *value *= scale);
                let (_, behind) = results.split_at_mut((segment.start - first) * outputs);
                let (those, behind) = behind.split_at_mut(segment.len() * outputs);
                products.push(Product::dense(b, part, those, Write::Add));
                (results, first) = (behind, segment.end);
            }
        }
        multiply(self.pool, self.level, &mut products);
    }

    /// The rows of each adapter that changes the module, and how.
    fn changes(
        &self,
        layer: usize,
        module: Module,
    ) -> impl Iterator<Item = (Range<usize>, &LowRank)> {
        let segments = self.plan.adapter_segments();
        segments.filter_map(move |(rows, adapter)| Some((rows, adapter?.change(layer, module)?)))
    }

    /// Makes rows, and rounds them where one of the layers wants that.
    fn make<'l>(
        &self,
        rows: &mut [f32],
        quantized: &mut QuantizedRows,
        columns: usize,
        make: impl Fn(usize, &mut [f32]) + Sync,
        mut linears: impl Iterator<Item = &'l Linear>,
    ) {
        match linears.any(|linear| matches!(linear, Linear::Packed(_))) {
            true => quantized.set_made(self.pool, self.level, rows, columns, make),
            false => make_rows(self.pool, rows, columns, make),
        }
    }

    /// Only wanted rows meet the large output matrix.
    fn scores(&self, buffers: &mut Buffers, scores: &mut Vec<f32>) {
        let hidden = self.shape.hidden;
        let wanted = self.plan.wanted_rows();
        // What is there is overwritten.
        scores.resize(wanted.len() * self.shape.vocabulary, 0.0);
        if wanted.is_empty() {
            return;
        }
        let Buffers {
            x,
            normed,
            quantized,
            ..
        } = buffers;
        normed.resize(wanted.len() * hidden, 0.0);
        let output = &*self.weights.output;
        let norm = self.norm(x, &self.weights.output_norm);
        let norm = |index: usize, results: &mut [f32]| norm(wanted[index], results);
        self.make(normed, quantized, hidden, norm, [output].into_iter());
        let product = product(output, normed, quantized, scores, Write::Replace);
        multiply(self.pool, self.level, &mut [product]);
    }
}

fn product<'a>(
    linear: &'a Linear,
    rows: &'a [f32],
    quantized: &'a QuantizedRows,
    results: &'a mut [f32],
    write: Write,
) -> Product<'a> {
    match linear {
        Linear::Packed(matrix) => Product::quantized(matrix, quantized, results, write),
        Linear::Dense(matrix) => Product::dense(matrix, rows, results, write),
    }
}
