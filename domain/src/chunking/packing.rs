//! Packing consecutive units into ranges that fit a model's token budget.

use std::ops::Range;

use super::Unit;

/// A chunk this full (percent of the budget) may end early, at a change of turn.
const TURN_END_FILL_PERCENT: u64 = 60;
/// A stretch between kept chunks that is less full than this (percent) is packed together with the next of them,
/// so that many edits leave no crumbs.
const CRUMB_FILL_PERCENT: u64 = 33;

/// How large chunks may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBudget {
    /// Most tokens in a chunk.
    pub max_tokens: u32,
    /// Most tokens in a chunk that is packed again between kept ones; at least `max_tokens`. The difference is
    /// what an edit may add without making two chunks of one.
    pub repacked_max_tokens: u32,
    /// Most tokens that a chunk repeats from the end of the one before; at most half a chunk.
    pub overlap_tokens: u32,
}

/// Packs `units` into index ranges that cover all of them in order. `kept` are ranges of an earlier packing whose
/// text has not changed ([`super::kept_ranges`]); they stay as they are, and only what lies between is packed.
///
/// A chunk is filled greedily, then cut back to its last change of turn if it stays 60 % full.
/// A unit above the budget is a chunk of its own. Each chunk has a unit that is in no earlier one.
pub fn pack(units: &[Unit], budget: ChunkBudget, kept: &[Range<usize>]) -> Vec<Range<usize>> {
    let packing = Packing { units, budget };
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let mut kept = kept.iter().peekable();
    let mut covered = 0;
    while covered < units.len() {
        while kept.next_if(|range| range.end <= covered).is_some() {}
        let chunk = match kept.peek() {
            Some(next) if next.start <= covered => (*next).clone(),
            Some(next) => {
                let start = packing.overlap_start(chunks.last(), covered);
                if packing.is_crumb(start..next.start) {
                    kept.next();
                    continue;
                }
                packing.chunk_before(start, covered, next)
            }
            None => {
                let start = packing.overlap_start(chunks.last(), covered);
                start..packing.end(start, covered, units.len())
            }
        };
        covered = chunk.end;
        chunks.push(chunk);
    }
    chunks
}

struct Packing<'a> {
    units: &'a [Unit<'a>],
    budget: ChunkBudget,
}

impl Packing<'_> {
    /// Cost of one unit in a chunk that begins at `start`; at least 1, so that a chunk has a bounded number of them.
    fn cost(&self, index: usize, start: usize) -> u64 {
        let unit = &self.units[index];
        let label_tokens = unit.label_tokens_in_chunk(index == start);
        u64::from(unit.token_count).max(1) + u64::from(label_tokens)
    }

    /// Cost of a chunk.
    fn total(&self, range: Range<usize>) -> u64 {
        let start = range.start;
        range.map(|index| self.cost(index, start)).sum()
    }

    fn max_cost(&self) -> u64 {
        u64::from(self.budget.max_tokens)
    }

    fn repacked_max_cost(&self) -> u64 {
        self.max_cost()
            .max(u64::from(self.budget.repacked_max_tokens))
    }

    fn overlap_max(&self) -> u64 {
        u64::from(self.budget.overlap_tokens).min(self.max_cost() / 2)
    }

    fn is_crumb(&self, range: Range<usize>) -> bool {
        self.total(range) * 100 < self.max_cost() * CRUMB_FILL_PERCENT
    }

    /// Goes back from `covered` over whole units, as far as overlap and the next unit allow.
    fn overlap_start(&self, previous: Option<&Range<usize>>, covered: usize) -> usize {
        let Some(previous) = previous else {
            return covered;
        };
        let room = self.max_cost().saturating_sub(self.cost(covered, covered));
        let overlap_max = self.overlap_max().min(room);
        let mut start = covered;
        while start > previous.start + 1 && self.total(start - 1..covered) <= overlap_max {
            start -= 1;
        }
        start
    }

    /// The next chunk of the stretch before the kept chunk `next`. The last one of it goes on into `next` by an
    /// overlap, as it did before the edit.
    fn chunk_before(&self, start: usize, covered: usize, next: &Range<usize>) -> Range<usize> {
        let mut cost = self.total(start..next.start);
        if cost > self.repacked_max_cost() {
            return start..self.end(start, covered, next.start);
        }
        let (mut end, mut overlap) = (next.start, 0);
        while end + 1 < next.end {
            let more = self.cost(end, start);
            if overlap + more > self.overlap_max() || cost + more > self.repacked_max_cost() {
                break;
            }
            overlap += more;
            cost += more;
            end += 1;
        }
        start..end
    }

    /// The end of the chunk that begins at `start`, in the stretch before `limit`.
    fn end(&self, start: usize, covered: usize, limit: usize) -> usize {
        let full_end = self.full_end(start, limit);
        self.turn_end(start, covered, full_end, limit)
            .unwrap_or(full_end)
    }

    /// The end of the fullest chunk from `start`; always after `start`.
    fn full_end(&self, start: usize, limit: usize) -> usize {
        let mut end = start + 1;
        let mut sum = self.cost(start, start);
        while end < limit && sum + self.cost(end, start) <= self.max_cost() {
            sum += self.cost(end, start);
            end += 1;
        }
        end
    }

    /// The last change of turn that leaves the chunk full enough and brings something new.
    fn turn_end(
        &self,
        start: usize,
        covered: usize,
        full_end: usize,
        limit: usize,
    ) -> Option<usize> {
        if full_end == limit {
            return None;
        }
        let mut sum = self.total(start..full_end);
        let mut end = full_end;
        while end > covered && sum * 100 >= self.max_cost() * TURN_END_FILL_PERCENT {
            if self.units[end - 1].turn != self.units[end].turn {
                return Some(end);
            }
            end -= 1;
            sum -= self.cost(end, start);
        }
        None
    }
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
