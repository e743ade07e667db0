//! Packing consecutive segments into ranges that fit a model's token budget.

use std::ops::Range;

/// A chunk this full (percent of the budget) may end early, at a change of turn.
const TURN_END_FILL_PERCENT: u64 = 60;

/// What packing needs to know of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentTokens {
    /// The turn that the segment belongs to.
    pub turn: u32,
    /// Tokens of its content.
    pub token_count: u32,
}

/// How large chunks may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBudget {
    /// Most tokens in a chunk.
    pub max_tokens: u32,
    /// Most tokens that a chunk repeats from the end of the one before; at most half a chunk.
    pub overlap_tokens: u32,
    /// Tokens that each segment costs besides its content, for the speaker label.
    pub label_tokens: u32,
}

/// Packs `segments` into index ranges that cover all of them in order.
///
/// A chunk is filled greedily, then cut back to its last change of turn if it stays 60 % full.
/// A segment above the budget is a chunk of its own. Each chunk has a segment that is in no earlier one.
pub fn pack_segments(segments: &[SegmentTokens], budget: ChunkBudget) -> Vec<Range<usize>> {
    let packing = Packing { segments, budget };
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let mut covered = 0;
    while covered < segments.len() {
        let start = packing.overlap_start(chunks.last(), covered);
        let full_end = packing.full_end(start);
        let end = packing
            .turn_end(start, covered, full_end)
            .unwrap_or(full_end);
        chunks.push(start..end);
        covered = end;
    }
    chunks
}

struct Packing<'a> {
    segments: &'a [SegmentTokens],
    budget: ChunkBudget,
}

impl Packing<'_> {
    /// Cost of one segment; at least 1, so that a chunk has a bounded number of segments.
    fn cost(&self, index: usize) -> u64 {
        let segment = self.segments[index];
        (u64::from(segment.token_count) + u64::from(self.budget.label_tokens)).max(1)
    }

    fn max_cost(&self) -> u64 {
        u64::from(self.budget.max_tokens)
    }

    /// Goes back from `covered` over whole segments, as far as overlap and the next segment allow.
    fn overlap_start(&self, previous: Option<&Range<usize>>, covered: usize) -> usize {
        let Some(previous) = previous else {
            return covered;
        };
        let room = self.max_cost().saturating_sub(self.cost(covered));
        let overlap_max = u64::from(self.budget.overlap_tokens)
            .min(self.max_cost() / 2)
            .min(room);
        let mut start = covered;
        let mut sum = 0;
        while start > previous.start + 1 && sum + self.cost(start - 1) <= overlap_max {
            start -= 1;
            sum += self.cost(start);
        }
        start
    }

    /// The end of the fullest chunk from `start`; always after `start`.
    fn full_end(&self, start: usize) -> usize {
        let mut end = start + 1;
        let mut sum = self.cost(start);
        while end < self.segments.len() && sum + self.cost(end) <= self.max_cost() {
            sum += self.cost(end);
            end += 1;
        }
        end
    }

    /// The last change of turn that leaves the chunk full enough and brings something new.
    fn turn_end(&self, start: usize, covered: usize, full_end: usize) -> Option<usize> {
        if full_end == self.segments.len() {
            return None;
        }
        let mut sum: u64 = (start..full_end).map(|index| self.cost(index)).sum();
        let mut end = full_end;
        while end > covered && sum * 100 >= self.max_cost() * TURN_END_FILL_PERCENT {
            if self.segments[end - 1].turn != self.segments[end].turn {
                return Some(end);
            }
            end -= 1;
            sum -= self.cost(end);
        }
        None
    }
}

#[cfg(test)]
#[path = "chunking_tests.rs"]
mod tests;
