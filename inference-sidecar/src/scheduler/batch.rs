//! What one step reads: which tokens of which sequences, within the token budget and the blocks there are.

use std::collections::HashSet;

use crate::scheduler::engine::EngineLimits;
use crate::scheduler::fairness::ServedTokens;
use crate::scheduler::kv_blocks::{BlockPool, PrefixKey};
use crate::scheduler::sequence::{Rank, Sequence};

/// The tokens of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub rank: Rank,
    pub tokens: usize,
    /// Tokens behind them that may prove wrong.
    pub drafts: usize,
}

/// Tokens of texts that a step reads, drafts included, at little more than the cost of one: as many as
/// a tile of the CPU's kernels takes at once.
const TEXT_ROWS: usize = 8;

/// A step.
#[derive(Default)]
pub(super) struct StepPlan {
    /// Neighbours run under the same adapter.
    pub parts: Vec<Part>,
    /// Sequences that have given their blocks to others.
    pub victims: Vec<Rank>,
    /// Tokens that need not be read because others have read them.
    pub reused_tokens: usize,
}

/// Plans a step. Sequences that make text come first, one token each; prompts share the rest of the
/// budget: interactive before background, then callers who were served least. What then is left goes to
/// drafts behind the texts' tokens.
pub(super) fn plan_step(
    running: &mut [Sequence],
    pool: &mut BlockPool,
    served: &ServedTokens,
    limits: &EngineLimits,
) -> StepPlan {
    let mut order: Vec<usize> = (0..running.len()).collect();
    order.sort_by_cached_key(|&index| {
        let sequence = &running[index];
        let (priority, number) = sequence.rank();
        let is_prompt = sequence.unread_count() > 1;
        (
            is_prompt,
            priority,
            served.served(sequence.caller()),
            number,
        )
    });
    let mut planner = Planner {
        running,
        pool,
        plan: StepPlan::default(),
        under_way: HashSet::new(),
    };
    let mut budget = limits.batch_tokens_max;
    for index in order {
        if budget == 0 {
            break;
        }
        budget -= planner.add(index, budget.min(limits.prompt_chunk_tokens));
    }
    planner.add_drafts(budget, limits.draft_tokens_max);
    planner.finish()
}

struct Planner<'a> {
    running: &'a mut [Sequence],
    pool: &'a mut BlockPool,
    plan: StepPlan,
    /// Blocks that this step computes: whoever wants the same waits a step and takes them over.
    under_way: HashSet<PrefixKey>,
}

impl Planner<'_> {
    /// Plans at most `tokens_max` tokens of a sequence; returns their number.
    fn add(&mut self, index: usize, tokens_max: usize) -> usize {
        let rank = self.running[index].rank();
        if self.plan.victims.contains(&rank) {
            return 0;
        }
        self.plan.reused_tokens += self.running[index].reuse(self.pool);
        let next = self.running[index].next_key();
        if next.is_some_and(|key| self.under_way.contains(&key)) {
            return 0;
        }
        let tokens = self.running[index].unread_count().min(tokens_max);
        while !self.running[index].hold(tokens, self.pool) {
            let Some(victim) = self.victim(rank) else {
                // It keeps what it has and waits for others to end.
                return 0;
            };
            self.running[victim].release(self.pool);
            self.plan.victims.push(self.running[victim].rank());
        }
        self.under_way.extend(next);
        self.plan.parts.push(Part {
            rank,
            tokens,
            drafts: 0,
        });
        tokens
    }

    /// The texts of the step share what is left of their rows and of the budget, a few drafts each, as
    /// far as there are blocks that nobody else will want for his next token.
    fn add_drafts(&mut self, budget: usize, most: usize) {
        let texts = self.running.iter().filter(|s| s.unread_count() == 1);
        let texts = texts.count();
        let each = TEXT_ROWS.saturating_sub(texts).checked_div(texts);
        let each = each.unwrap_or(0).min(most);
        if each == 0 {
            return;
        }
        let mut budget = budget;
        for part in &mut self.plan.parts {
            let sequence = self.running.iter_mut().find(|s| s.rank() == part.rank);
            let has_spare = self.pool.available() > texts;
            if let Some(sequence) = sequence {
                part.drafts = sequence.draft(each.min(budget), has_spare, self.pool);
                budget -= part.drafts;
            }
        }
    }

    /// The last of those that come after `rank`, hold blocks and are not in this step.
    fn victim(&self, rank: Rank) -> Option<usize> {
        let is_victim = |&index: &usize| {
            let sequence = &self.running[index];
            let other = sequence.rank();
            let is_planned = self.plan.parts.iter().any(|part| part.rank == other);
            other > rank && !sequence.blocks().is_empty() && !is_planned
        };
        let others = (0..self.running.len()).filter(is_victim);
        others.max_by_key(|&index| self.running[index].rank())
    }

    fn finish(mut self) -> StepPlan {
        let adapter = |part: &Part| {
            let sequence = self
                .running
                .iter()
                .find(|sequence| sequence.rank() == part.rank);
            let adapter = sequence.and_then(|sequence| sequence.plan().adapter.as_ref());
            adapter.map(|adapter| std::sync::Arc::as_ptr(&adapter.adapter).addr())
        };
        self.plan.parts.sort_by_cached_key(adapter);
        self.plan
    }
}
