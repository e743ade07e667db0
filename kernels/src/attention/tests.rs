//! Goal: attention equals its definition within the precision of f16, at every level bit for bit the
//! same, and a token's result depends on no other token of the step.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// The cells of the others stay as they are.
const LAYER: usize = 1;
const LAYERS: usize = 3;

struct Case {
    heads: Heads,
    tokens: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn random(heads: Heads, tokens: usize) -> Self {
        let mut random = StdRng::seed_from_u64(tokens as u64);
        // What f16 holds exactly.
        let mut values = |count: usize| -> Vec<f32> {
            (0..count * heads.size * tokens)
                .map(|_| half::f16::from_f32(random.random_range(-2.0..2.0)).to_f32())
                .collect()
        };
        Self {
            heads,
            tokens,
            queries: values(heads.count),
            keys: values(heads.kv),
            values: values(heads.kv),
        }
    }

    /// Results when the tokens come in pieces of `piece`.
    fn attend(&self, format: KvFormat, level: Level, piece: usize) -> Vec<f32> {
        let Heads { count, kv, size } = self.heads;
        let blocks: Vec<BlockId> = (0..self.tokens.div_ceil(KV_BLOCK_TOKENS) as u32)
            .rev()
            .map(BlockId)
            .collect();
        let mut cache = HostKv::new(format, LAYERS, blocks.len(), self.heads).unwrap();
        let mut results = vec![0.0; self.tokens * count * size];
        let (mut attention, pool) = (Attention::default(), Pool::new(2));
        for position in (0..self.tokens).step_by(piece) {
            let tokens = piece.min(self.tokens - position);
            let spans = [Span {
                position,
                tokens,
                blocks: &blocks,
            }];
            let of = |heads: usize| position * heads * size..(position + tokens) * heads * size;
            attention.plan(&pool, self.heads, &spans);
            let (keys, values) = (&self.keys[of(kv)], &self.values[of(kv)]);
            attention.write((&pool, level), &mut cache, LAYER, keys, values);
            let (queries, results) = (&self.queries[of(count)], &mut results[of(count)]);
            attention.attend((&pool, level), &cache, LAYER, queries);
            collect(&attention, level, self.heads, results);
        }
        results
    }

    fn defined(&self, token: usize, head: usize) -> Vec<f64> {
        let Heads { count, kv, size } = self.heads;
        let kv_head = head / (count / kv);
        let query = &self.queries[(token * count + head) * size..][..size];
        let of = |values: &'_ [f32], other: usize| -> Vec<f64> {
            let values = &values[(other * kv + kv_head) * size..][..size];
            values.iter().map(|&value| f64::from(value)).collect()
        };
        let weights: Vec<f64> = (0..=token)
            .map(|other| {
                let products = of(&self.keys, other);
                let products = products.iter().zip(query).map(|(k, &q)| k * f64::from(q));
                (products.sum::<f64>() / (size as f64).sqrt()).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        let mut result = vec![0.0; size];
        for (other, weight) in weights.iter().enumerate() {
            for (result, value) in result.iter_mut().zip(of(&self.values, other)) {
                *result += weight / total * value;
            }
        }
        result
    }
}

fn collect(attention: &Attention, level: Level, heads: Heads, results: &mut [f32]) {
    let rows = results.chunks_exact_mut(heads.count * heads.size);
    rows.enumerate()
        .for_each(|(token, row)| attention.result(level, heads, token, row));
}

#[test]
fn attention_equals_the_definition_however_it_is_cut() {
    for (count, kv, size, tokens) in [
        (9, 3, 64, 150),
        (6, 2, 16, 600),
        (16, 4, 32, 300),
        (8, 1, 8, 280),
        (4, 1, 24, 70),
        (32, 1, 16, 40),
        (2, 2, 8, 5),
    ] {
        let case = Case::random(Heads { count, kv, size }, tokens);
        let results = case.attend(KvFormat::F16, Level::Portable, tokens);
        for token in 0..tokens {
            for head in 0..count {
                let found = &results[(token * count + head) * size..][..size];
                for (found, exact) in found.iter().zip(case.defined(token, head)) {
                    assert!((f64::from(*found) - exact).abs() < 1e-5, "{found} {exact}");
                }
            }
        }
        // The values are such that f16 rounds nothing.
        for format in [KvFormat::F16, KvFormat::F32] {
            for level in Level::all() {
                for piece in [1, 7, 64, tokens] {
                    assert!(
                        case.attend(format, level, piece) == results,
                        "{level:?} {piece}"
                    );
                }
            }
        }
    }
}

#[test]
fn attention_over_bytes_is_close_and_the_same_however_it_is_cut() {
    for (count, kv, size, tokens) in [
        (9, 3, 64, 300),
        (4, 1, 24, 70),
        (2, 2, 8, 5),
        (2, 1, 2, 40),
        (3, 1, 6, 33),
        (4, 2, 18, 280),
    ] {
        let case = Case::random(Heads { count, kv, size }, tokens);
        let results = case.attend(KvFormat::Int8, Level::Portable, tokens);
        for token in 0..tokens {
            for head in 0..count {
                let found = &results[(token * count + head) * size..][..size];
                for (found, exact) in found.iter().zip(case.defined(token, head)) {
                    // Values up to 2 in steps of 2/127, and weights by scores that are off by some.
                    assert!((f64::from(*found) - exact).abs() < 0.1, "{found} {exact}");
                }
            }
        }
        for level in Level::all() {
            for piece in [1, 7, 64, tokens] {
                let found = case.attend(KvFormat::Int8, level, piece);
                assert!(found == results, "{level:?} {piece}");
            }
        }
    }
}

#[test]
fn queries_that_are_not_numbers_harm_nobody_else() {
    let heads = Heads {
        count: 4,
        kv: 2,
        size: 16,
    };
    for format in [KvFormat::F16, KvFormat::Int8] {
        for level in Level::all() {
            let sound = Case::random(heads, 40);
            let mut spoiled = Case::random(heads, 40);
            // A value of one head of token 20, and one of another head of token 30.
            spoiled.queries[(20 * 4 + 1) * 16 + 3] = f32::NAN;
            spoiled.queries[(30 * 4 + 2) * 16] = f32::INFINITY;
            let expected = sound.attend(format, level, 40);
            let found = spoiled.attend(format, level, 40);
            for (row, (found, expected)) in found.chunks(16).zip(expected.chunks(16)).enumerate() {
                match row {
                    81 | 122 => assert!(found.iter().all(|value| !value.is_finite())),
                    _ => assert_eq!(found, expected, "{format:?} {level:?} {row}"),
                }
            }
        }
    }
}

#[test]
fn sequences_of_one_step_do_not_touch_one_another() {
    for format in [KvFormat::F16, KvFormat::Int8] {
        check_sequences(format);
    }
}

fn check_sequences(format: KvFormat) {
    let heads = Heads {
        count: 6,
        kv: 2,
        size: 16,
    };
    let cases = [300, 3, 40].map(|tokens| Case::random(heads, tokens));
    let blocks: Vec<BlockId> = (0..60).map(BlockId).collect();
    let blocks: Vec<&[BlockId]> = blocks.chunks(20).collect();
    let mut cache = HostKv::new(format, LAYERS, 60, heads).unwrap();
    let (mut attention, pool) = (Attention::default(), Pool::new(2));
    for level in Level::all() {
        // First all tokens but the last one, which comes in a step of its own.
        for step in [|tokens: usize| 0..tokens - 1, |tokens| tokens - 1..tokens] {
            let places = cases.iter().map(|case| step(case.tokens));
            let spans: Vec<Span<'_>> = places
                .zip(&blocks)
                .map(|(place, blocks)| Span {
                    position: place.start,
                    tokens: place.len(),
                    blocks,
                })
                .collect();
            let joined = |values: fn(&Case) -> &[f32], heads: usize| -> Vec<f32> {
                let rows = |case: &Case| {
                    let place = step(case.tokens);
                    values(case)[place.start * heads * 16..place.end * heads * 16].to_vec()
                };
                cases.iter().flat_map(rows).collect()
            };
            let (keys, values) = (joined(|c| &c.keys, 2), joined(|c| &c.values, 2));
            attention.plan(&pool, heads, &spans);
            attention.write((&pool, level), &mut cache, LAYER, &keys, &values);
            let queries = joined(|c| &c.queries, 6);
            let mut results = vec![0.0; queries.len()];
            attention.attend((&pool, level), &cache, LAYER, &queries);
            collect(&attention, level, heads, &mut results);
            let mut results = results.as_slice();
            for case in &cases {
                let alone = case.attend(format, level, case.tokens);
                let place = step(case.tokens);
                let (found, others) = results.split_at(place.len() * 6 * 16);
                assert!(found == &alone[place.start * 6 * 16..place.end * 6 * 16]);
                results = others;
            }
        }
    }
}

#[test]
fn more_cells_than_can_be_counted_are_refused() {
    let heads = Heads {
        count: 1 << 20,
        kv: 1 << 20,
        size: 64,
    };
    for format in [KvFormat::F32, KvFormat::F16, KvFormat::Int8] {
        // Without a check both products would be zero: powers of two from 64 on.
        assert!(HostKv::new(format, 1 << 40, 1 << 20, heads).is_err());
        assert!(HostKv::new(format, 1, 1 << 60, heads).is_err());
    }
}
