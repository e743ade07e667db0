//! Goal: adapters saved by PEFT change what a model computes exactly as PEFT's own merge does, on a
//! base in Hugging Face's order of rows and on one in GGUF's.
//!
//! The model here is written as plainly as possible, so that it can be checked by reading.

use std::collections::BTreeMap;

use inference_sidecar::models::{Adapter, LowRank, Module};

use super::peft_fixture::{
    self, ADAPTERS, BASE, HeadOrder, NORM_EPSILON, NamedWeights, ROPE_THETA, Reference,
};

/// Difference of logits that rounding explains; they reach from -8 to 8.
const TOLERANCE: f64 = 1e-3;

struct PlainLlama {
    weights: BTreeMap<String, NamedWeights>,
    order: HeadOrder,
    adapter: Option<Adapter>,
}

impl PlainLlama {
    fn new(order: HeadOrder, adapter: Option<Adapter>) -> Self {
        let weights = peft_fixture::gguf_weights(order);
        let weights = weights.into_iter().map(|w| (w.name.clone(), w)).collect();
        Self {
            weights,
            order,
            adapter,
        }
    }

    /// The logits of every position.
    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let embedding = &self.weights["token_embd.weight"];
        let mut states: Vec<Vec<f64>> = tokens
            .iter()
            .map(|&token| row(embedding, token as usize))
            .collect();
        for layer in 0..BASE.layers {
            self.attend(layer, &mut states);
            for state in &mut states {
                let x = self.norm(&format!("blk.{layer}.ffn_norm.weight"), state);
                let gate = self.linear(layer, Module::Gate, &x);
                let up = self.linear(layer, Module::Up, &x);
                let gated: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                add(state, &self.linear(layer, Module::Down, &gated));
            }
        }
        let output = |state: &Vec<f64>| {
            product(
                &self.weights["output.weight"],
                &self.norm("output_norm.weight", state),
            )
        };
        states.iter().flat_map(output).collect()
    }

    fn attend(&self, layer: usize, states: &mut [Vec<f64>]) {
        let size = BASE.head_size;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, state) in states.iter_mut().enumerate() {
            let x = self.norm(&format!("blk.{layer}.attn_norm.weight"), state);
            let queries = self.rotate(self.linear(layer, Module::Query, &x), position);
            keys.push(self.rotate(self.linear(layer, Module::Key, &x), position));
            values.push(self.linear(layer, Module::Value, &x));
            let mut mixed = vec![0.0; BASE.heads * size];
            for head in 0..BASE.heads {
                let shared = head / (BASE.heads / BASE.kv_heads) * size;
                let query = &queries[head * size..][..size];
                let score = |key: &Vec<f64>| {
                    (dot(query, &key[shared..][..size]) / (size as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                for (score, value) in scores.iter().zip(&values) {
                    let part = value[shared..][..size]
                        .iter()
                        .map(|v| v * score / total)
                        .collect::<Vec<_>>();
                    add(&mut mixed[head * size..][..size], &part);
                }
            }
            add(state, &self.linear(layer, Module::AttentionOutput, &mixed));
        }
    }

    /// W x + scale · B (A x).
    fn linear(&self, layer: usize, module: Module, x: &[f64]) -> Vec<f64> {
        let name = match module {
            Module::Query => "attn_q",
            Module::Key => "attn_k",
            Module::Value => "attn_v",
            Module::AttentionOutput => "attn_output",
            Module::Gate => "ffn_gate",
            Module::Up => "ffn_up",
            Module::Down => "ffn_down",
        };
        let mut y = product(&self.weights[&format!("blk.{layer}.{name}.weight")], x);
        if let Some(change) = self.adapter.as_ref().and_then(|a| a.change(layer, module)) {
            add(&mut y, &low_rank_product(change, x));
        }
        y
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let scale = (dot(x, x) / x.len() as f64 + f64::from(NORM_EPSILON))
            .sqrt()
            .recip();
        let weights = &self.weights[name].values;
        x.iter()
            .zip(weights)
            .map(|(x, w)| x * scale * f64::from(*w))
            .collect()
    }

    fn rotate(&self, mut x: Vec<f64>, position: usize) -> Vec<f64> {
        let half = BASE.head_size / 2;
        for head in x.chunks_exact_mut(BASE.head_size) {
            for pair in 0..half {
                let (first, second) = match self.order {
                    HeadOrder::Halves => (pair, pair + half),
                    HeadOrder::Neighbours => (2 * pair, 2 * pair + 1),
                };
                let frequency = f64::from(ROPE_THETA).powf(-(pair as f64) / half as f64);
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (a, b) = (head[first], head[second]);
                (head[first], head[second]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
        x
    }
}

fn low_rank_product(change: &LowRank, x: &[f64]) -> Vec<f64> {
    let product = |rows: usize, values: Vec<f32>, x: &[f64]| {
        let columns = values.len() / rows;
        product(
            &NamedWeights {
                name: String::new(),
                rows,
                columns,
                values,
            },
            x,
        )
    };
    let narrow = product(change.a.rows(), change.a.to_f32(), x);
    let mut wide = product(change.b.rows(), change.b.to_f32(), &narrow);
    wide.iter_mut().for_each(|y| *y *= f64::from(change.scale));
    wide
}

fn row(weights: &NamedWeights, index: usize) -> Vec<f64> {
    let row = &weights.values[index * weights.columns..][..weights.columns];
    row.iter().map(|value| f64::from(*value)).collect()
}

fn product(weights: &NamedWeights, x: &[f64]) -> Vec<f64> {
    (0..weights.rows)
        .map(|index| dot(&row(weights, index), x))
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], part: &[f64]) {
    assert_eq!(sum.len(), part.len());
    sum.iter_mut()
        .zip(part)
        .for_each(|(sum, part)| *sum += part);
}

/// The largest difference of a logit.
fn difference(model: &PlainLlama, reference: &Reference) -> f64 {
    let logits = model.logits(&reference.tokens);
    assert_eq!(logits.len(), reference.logits.len());
    let differences = logits
        .iter()
        .zip(&reference.logits)
        .map(|(a, b)| (a - f64::from(*b)).abs());
    differences.fold(0.0, f64::max)
}

#[test]
fn unmerged_logits_equal_merged_ones() {
    for order in [HeadOrder::Halves, HeadOrder::Neighbours] {
        let base = PlainLlama::new(order, None);
        for reference in peft_fixture::references("base") {
            assert!(difference(&base, &reference) < TOLERANCE, "{order:?}");
        }
        for name in ADAPTERS {
            let model = PlainLlama::new(order, Some(peft_fixture::adapter(name, order)));
            for reference in peft_fixture::references(name) {
                let actual = difference(&model, &reference);
                assert!(actual < TOLERANCE, "{name} on {order:?}: {actual}");
                assert!(
                    difference(&base, &reference) > 1.0,
                    "{name} changes nothing"
                );
            }
        }
    }
}

#[test]
fn an_adapter_in_the_wrong_order_is_noticed() {
    for name in ADAPTERS {
        let wrong = peft_fixture::adapter(name, HeadOrder::Halves);
        let model = PlainLlama::new(HeadOrder::Neighbours, Some(wrong));
        let references = peft_fixture::references(name);
        assert!(
            references
                .iter()
                .any(|reference| difference(&model, reference) > 0.1),
            "{name}"
        );
    }
}
