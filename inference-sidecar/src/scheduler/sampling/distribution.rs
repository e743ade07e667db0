//! Weights of tokens, the likeliest part of them, and a draw.
//!
//! Every sum runs in the order of tokens or of ranks, so equal scores give equal draws to the last bit.

use std::cmp::Ordering;

/// A token and its weight; the highest weight of a distribution is 1.
type Weighted = (u32, f32);

/// Ranks that are sorted first; most nuclei are smaller.
const RANKS_FIRST: usize = 64;
/// How many times more ranks are sorted when the nucleus is larger.
const RANKS_GROWTH: usize = 8;

/// Tokens by likelihood, for one step.
pub(super) struct Distribution {
    /// In the order of tokens, or likeliest first once it was cut.
    weights: Vec<Weighted>,
}

impl Distribution {
    /// `highest` is the highest of `logits`, a finite number.
    pub(super) fn new(logits: &[f32], highest: f32, temperature: f32) -> Self {
        let weight = |logit: &f32| ((logit - highest) / temperature).exp();
        let weights = (0..).zip(logits.iter().map(weight));
        // A token of weight zero is never drawn, not even by rounding at the end of the line.
        let weights = weights.filter(|&(_, weight)| weight > 0.0).collect();
        Self { weights }
    }

    /// Keeps the likeliest tokens that together have the share `top_p` of all weights, at least one,
    /// and of these the tokens of at least `min_p` of the likeliest one's weight.
    pub(super) fn cut(&mut self, top_p: f32, min_p: f32) {
        if top_p < 1.0 {
            let mass = f64::from(top_p) * self.total();
            let kept = self.nucleus(mass);
            self.weights.truncate(kept);
        }
        self.weights.retain(|&(_, weight)| weight >= min_p);
    }

    /// The token at `point` in [0, 1) of the line on which each token is as long as its weight.
    /// None when no token has a weight.
    pub(super) fn draw(&self, point: f64) -> Option<u32> {
        let mut rest = point * self.total();
        for &(token, weight) in &self.weights {
            if rest < f64::from(weight) {
                return Some(token);
            }
            rest -= f64::from(weight);
        }
        self.weights.last().map(|&(token, _)| token)
    }

    /// The tokens that may be drawn.
    #[cfg(test)]
    pub(super) fn tokens(&self) -> Vec<u32> {
        self.weights.iter().map(|&(token, _)| token).collect()
    }

    /// Sorts as many ranks as the nucleus needs; returns its size.
    fn nucleus(&mut self, mass: f64) -> usize {
        let (mut sum, mut sorted, mut ranks) = (0.0, 0, RANKS_FIRST);
        while sorted < self.weights.len() {
            let rest = &mut self.weights[sorted..];
            let count = ranks.min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable_by(count - 1, likelier_first);
            }
            rest[..count].sort_unstable_by(likelier_first);
            for (rank, &(_, weight)) in rest[..count].iter().enumerate() {
                sum += f64::from(weight);
                if sum >= mass {
                    return sorted + rank + 1;
                }
            }
            sorted += count;
            ranks *= RANKS_GROWTH;
        }
        self.weights.len()
    }

    fn total(&self) -> f64 {
        self.weights
            .iter()
            .map(|&(_, weight)| f64::from(weight))
            .sum()
    }
}

/// A total order of numbers: likeliest first, equals by token.
pub(super) fn likelier_first(a: &Weighted, b: &Weighted) -> Ordering {
    // Not `total_cmp`, for which zero and minus zero differ.
    let by_weight = b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal);
    by_weight.then(a.0.cmp(&b.0))
}
