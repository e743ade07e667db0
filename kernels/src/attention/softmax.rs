//! Parts of a softmax, and how they are joined.

use super::{Heads, Token};
use crate::lanes::{Kernel, LANES, Lanes};

/// What a softmax over some positions needs to be joined with others.
#[derive(Clone, Copy)]
pub(super) struct Peak {
    pub highest: f32,
    /// Sum of e to the power of all scores less the highest.
    pub total: f32,
}

/// By what sums of values are multiplied before they are added to one another.
#[derive(Clone, Copy)]
pub(super) struct Factors<L: Lanes> {
    before: L::F,
    next: L::F,
}

impl Peak {
    /// Both together. A part without positions (highest: minus infinity, total: zero) changes nothing.
    #[inline(always)]
    pub(super) fn join<L: Lanes>(self, lanes: L, next: Self) -> (Self, Factors<L>) {
        let highest = self.highest.max(next.highest);
        let factors = Factors::<L> {
            before: lanes.exp(lanes.splat(self.highest - highest)),
            next: lanes.exp(lanes.splat(next.highest - highest)),
        };
        let totals = factors.join(lanes, lanes.splat(self.total), lanes.splat(next.total));
        let total = lanes.first(totals);
        (Self { highest, total }, factors)
    }

    /// As it stands behind the values of a row.
    #[inline(always)]
    pub(super) fn read(row: &[f32], size: usize) -> Self {
        let (highest, total) = (row[size], row[size + 1]);
        Self { highest, total }
    }

    #[inline(always)]
    pub(super) fn write(self, row: &mut [f32], size: usize) {
        row[size] = self.highest;
        row[size + 1] = self.total;
    }
}

impl<L: Lanes> Factors<L> {
    #[inline(always)]
    pub(super) fn join(self, lanes: L, before: L::F, next: L::F) -> L::F {
        lanes.fma(next, self.next, lanes.mul(before, self.before))
    }
}

/// Joins the pieces of a token.
pub(super) struct Finish<'a> {
    pub heads: Heads,
    pub token: &'a Token,
    /// Values of a piece.
    pub piece_size: usize,
    /// From the first piece of the token on.
    pub partials: &'a [f32],
    /// Of the token.
    pub results: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (heads, token) = (self.heads, self.token);
        let (group, width) = (heads.group(), heads.stored_size());
        for (head, results) in self.results.chunks_exact_mut(heads.size).enumerate() {
            let first = head / group * token.pieces;
            let row = token.index * group + head % group;
            let start = row * heads.partial_size();
            let mut peak = None;
            for piece in first..first + token.pieces {
                let partial = &self.partials[piece * self.piece_size + start..];
                let next = Peak::read(partial, width);
                let Some(before) = peak else {
                    results.copy_from_slice(&partial[..heads.size]);
                    peak = Some(next);
                    continue;
                };
                let (joined, factors) = Peak::join(before, lanes, next);
                add(lanes, results, &partial[..heads.size], factors);
                peak = Some(joined);
            }
            let total = peak.map_or(f32::NAN, |peak| peak.total);
            let share = 1.0 / total;
            for result in results {
                *result *= share;
            }
        }
    }
}

#[inline(always)]
fn add<L: Lanes>(lanes: L, results: &mut [f32], partial: &[f32], factors: Factors<L>) {
    let (whole, rest) = results.as_chunks_mut::<LANES>();
    let (vectors, rest_of_partial) = partial.as_chunks();
    for (results, partial) in whole.iter_mut().zip(vectors) {
        let joined = factors.join(lanes, lanes.load(results), lanes.load(partial));
        lanes.store(joined, results);
    }
    if !rest.is_empty() {
        let (before, next) = (lanes.load_part(rest), lanes.load_part(rest_of_partial));
        let mut joined = [0.0; LANES];
        lanes.store(factors.join(lanes, before, next), &mut joined);
        rest.copy_from_slice(&joined[..rest.len()]);
    }
}
