//! Causal attention of each token over the blocks of its sequence, in f32, position by position.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::dot::{add_scaled, dot};
use crate::models::{BlockId, KV_BLOCK_TOKENS};

/// The heads of a model; `count` is a multiple of `kv`.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub kv: usize,
    /// Values of one head.
    pub size: usize,
}

/// Keys and values of one layer: block × kv head × token in the block × value of the head.
pub struct HostKv {
    keys: Vec<f32>,
    values: Vec<f32>,
    heads: Heads,
}

/// Where a token of a step stands.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub position: usize,
    pub blocks: &'a [BlockId],
}

impl HostKv {
    pub fn new(blocks: usize, heads: Heads) -> Self {
        // Zeroed memory comes from the system lazily: blocks that are never used cost nothing.
        let length = blocks * KV_BLOCK_TOKENS * heads.kv * heads.size;
        Self {
            keys: vec![0.0; length],
            values: vec![0.0; length],
            heads,
        }
    }

    /// Stores the keys and values of tokens (tokens × kv heads × head size).
    pub fn write(&mut self, places: &[Place<'_>], keys: &[f32], values: &[f32]) {
        let Heads { kv, size, .. } = self.heads;
        for (token, place) in places.iter().enumerate() {
            for head in 0..kv {
                let from = (token * kv + head) * size;
                let to = self.offset(*place, place.position, head);
                self.keys[to..to + size].copy_from_slice(&keys[from..from + size]);
                self.values[to..to + size].copy_from_slice(&values[from..from + size]);
            }
        }
    }

    fn offset(&self, place: Place<'_>, position: usize, head: usize) -> usize {
        let block = place.blocks[position / KV_BLOCK_TOKENS].0 as usize;
        let Heads { kv, size, .. } = self.heads;
        ((block * kv + head) * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS) * size
    }
}

/// tokens × heads × head size queries; each token sees its own and all earlier positions.
pub fn attend(cache: &HostKv, places: &[Place<'_>], queries: &[f32]) -> Vec<f32> {
    let Heads { count, kv, size } = cache.heads;
    let group = count / kv * size;
    let arch = Arch::new();
    let mut results = vec![0.0; queries.len()];
    // Query heads that share keys and values lie side by side: one task for them.
    results
        .par_chunks_mut(group)
        .zip(queries.par_chunks(group))
        .enumerate()
        .for_each(|(index, (results, queries))| {
            arch.dispatch(Task {
                cache,
                place: places[index / kv],
                kv_head: index % kv,
                queries,
                results,
            });
        });
    results
}

struct Task<'a> {
    cache: &'a HostKv,
    place: Place<'a>,
    kv_head: usize,
    /// The query heads of one group.
    queries: &'a [f32],
    results: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            cache,
            place,
            kv_head,
            queries,
            results,
        } = self;
        let size = cache.heads.size;
        let scale = 1.0 / (size as f32).sqrt();
        let mut scores = vec![0.0; place.position + 1];
        for (query, result) in queries
            .chunks_exact(size)
            .zip(results.chunks_exact_mut(size))
        {
            for (block, scores) in scores.chunks_mut(KV_BLOCK_TOKENS).enumerate() {
                let offset = cache.offset(place, block * KV_BLOCK_TOKENS, kv_head);
                let keys = cache.keys[offset..].chunks_exact(size);
                for (score, key) in scores.iter_mut().zip(keys) {
                    *score = dot(simd, query, key) * scale;
                }
            }
            softmax(&mut scores);
            for (block, weights) in scores.chunks(KV_BLOCK_TOKENS).enumerate() {
                let offset = cache.offset(place, block * KV_BLOCK_TOKENS, kv_head);
                let values = cache.values[offset..].chunks_exact(size);
                for (&weight, value) in weights.iter().zip(values) {
                    add_scaled(simd, result, weight, value);
                }
            }
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        total += *score;
    }
    let factor = 1.0 / total;
    for score in scores.iter_mut() {
        *score *= factor;
    }
}
