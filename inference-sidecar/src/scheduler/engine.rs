//! The engine of one language model: a thread that runs steps over all sequences at once.
//!
//! Continuous batching (Orca, Yu et al. 2022) with chunked prefill (Sarathi-Serve, arXiv 2403.02310):
//! each step first takes one token of every sequence that makes text, then fills the token budget with
//! pieces of prompts, and what is left of it with drafts behind the texts. Sequences come and go between steps.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use proto::model::Priority;
use proto::wire::FinishReason;
use rayon::prelude::*;

use crate::catalog::ModelCard;
use crate::error::Error;
use crate::metrics::LanguageMetrics;
use crate::models::{BatchPlan, LanguageModel, LogitsOf, SequencePlan};
use crate::scheduler::batch::{Part, plan_step};
use crate::scheduler::fairness::ServedTokens;
use crate::scheduler::kv_blocks::BlockPool;
use crate::scheduler::room::Room;
use crate::scheduler::sequence::{Arrival, Rank, Sequence};
use crate::scheduler::{GenerationJob, JobQueue};

/// Bounds of a step and of the sequences in it.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// Sequences that run at once.
    pub sequences_max: usize,
    /// Tokens of one step.
    pub batch_tokens_max: usize,
    /// Tokens of one prompt in one step: between steps a cancelled request is noticed.
    pub prompt_chunk_tokens: usize,
    /// Drafts of one text in one step; 0 reads none.
    pub draft_tokens_max: usize,
}

/// What an engine is made of.
pub struct EngineParts {
    /// With `kv_blocks` blocks reserved.
    pub model: Box<dyn LanguageModel>,
    pub card: ModelCard,
    pub kv_blocks: usize,
    pub queue: Arc<JobQueue<GenerationJob>>,
    pub limits: EngineLimits,
    pub metrics: LanguageMetrics,
}

/// Rows of scores for which memory is kept between steps: those of few sequences, where a step is short.
const SCORE_ROWS_KEPT: usize = 8;

/// What a sequence made of its scores.
struct Chosen {
    rank: Rank,
    /// Tokens.
    made: usize,
    /// How it ends, if it does.
    end: Option<Result<FinishReason, Error>>,
}

/// The state of one model's scheduler.
pub struct Engine {
    parts: EngineParts,
    pool: BlockPool,
    running: Vec<Sequence>,
    /// Taken from the queue or put back by a preemption; they hold no blocks.
    waiting: Vec<Sequence>,
    served: ServedTokens,
    arrivals: u64,
    /// Of the last step: the memory is used again.
    scores: Vec<f32>,
}

impl Engine {
    pub fn new(parts: EngineParts) -> Self {
        let engine = Self {
            pool: BlockPool::new(parts.kv_blocks),
            running: Vec::new(),
            waiting: Vec::new(),
            served: ServedTokens::default(),
            arrivals: 0,
            scores: Vec::new(),
            parts,
        };
        engine.report();
        engine
    }

    /// Runs until the queue is closed and everything taken from it has ended.
    pub fn run(mut self) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() && !self.parts.queue.wait() {
                return;
            }
            self.end_unwanted();
            self.admit();
            self.step();
            self.report();
        }
    }

    /// Publishes how many sequences and blocks are in use.
    fn report(&self) {
        let usage = self.pool.usage();
        let EngineParts {
            card,
            queue,
            metrics,
            ..
        } = &self.parts;
        queue.counters().set_kv(&card.name, usage);
        metrics.set_kv_blocks(usage);
        metrics.requests().set_running(self.running.len());
        metrics
            .requests()
            .set_waiting(self.waiting.len() + queue.len());
    }

    /// Ends the sequences for which nobody waits.
    fn end_unwanted(&mut self) {
        self.parts.queue.drop_all_unwanted();
        for sequence in take_if(&mut self.running, |s| s.end_reason().is_some())
            .into_iter()
            .chain(take_if(&mut self.waiting, |s| s.end_reason().is_some()))
        {
            let reason = sequence.end_reason().unwrap_or(Error::Cancelled);
            self.end(sequence, Err(reason));
        }
    }

    /// Lets sequences run while there is room: interactive ones first, then those that were put
    /// back, then callers who were served least.
    fn admit(&mut self) {
        loop {
            self.fetch();
            let Some(best) = self.best_waiting() else {
                return;
            };
            let room = Room {
                running: self.running.iter_mut().map(Sequence::claim).collect(),
                pool: &self.pool,
                sequences_max: self.parts.limits.sequences_max,
            };
            let Some(victims) = room.make(&self.waiting[best].claim()) else {
                return;
            };
            self.preempt(&victims);
            let mut sequence = self.waiting.swap_remove(best);
            sequence.admit();
            self.running.push(sequence);
        }
    }

    /// Takes the next job of each priority from the queue, unless one of that priority waits here.
    fn fetch(&mut self) {
        for priority in [Priority::Interactive, Priority::Background] {
            if self
                .waiting
                .iter()
                .any(|s| s.rank().0 == priority && s.is_fresh())
            {
                continue;
            }
            let served = &self.served;
            let rank = |job: &GenerationJob| served.served(&job.plan.caller.name);
            if let Some((job, waiting)) = self.parts.queue.try_pop(priority, rank) {
                self.served.arrive(&job.plan.caller.name);
                let number = self.arrivals;
                self.arrivals += 1;
                let arrival = Arrival {
                    job,
                    number,
                    waiting,
                };
                let EngineParts { card, metrics, .. } = &self.parts;
                let sequence = Sequence::new(arrival, &card.sha256, metrics.clone());
                self.waiting.push(sequence);
            }
        }
    }

    fn best_waiting(&self) -> Option<usize> {
        let key = |&index: &usize| {
            let sequence = &self.waiting[index];
            let (priority, number) = sequence.rank();
            let served = self.served.served(sequence.caller());
            (priority, sequence.is_new(), served, number)
        };
        (0..self.waiting.len()).min_by_key(key)
    }

    /// Puts running sequences back to wait.
    fn preempt(&mut self, victims: &[Rank]) {
        for mut sequence in take_if(&mut self.running, |s| victims.contains(&s.rank())) {
            sequence.release(&mut self.pool);
            self.parts.queue.counters().count_preempted();
            self.parts.metrics.preempted();
            self.waiting.push(sequence);
        }
    }

    /// One step of the model, and what follows from it.
    fn step(&mut self) {
        let plan = plan_step(
            &mut self.running,
            &mut self.pool,
            &self.served,
            &self.parts.limits,
        );
        self.parts
            .queue
            .counters()
            .count_prefix_hits(plan.reused_tokens);
        self.preempt(&plan.victims);
        if plan.parts.is_empty() {
            return;
        }
        let tokens = plan
            .parts
            .iter()
            .map(|part| part.tokens + part.drafts)
            .sum();
        self.parts.metrics.step(tokens);
        let mut scores = std::mem::take(&mut self.scores);
        match self.forward(&plan.parts, &mut scores) {
            Ok(()) => self.apply(&plan.parts, &mut scores),
            // Only asked for when a single sequence is in the step, which is ended by the next round.
            Err(Error::Cancelled) => {}
            Err(error) => self.fail(&plan.parts, error),
        }
        let kept = SCORE_ROWS_KEPT * self.parts.model.vocabulary();
        scores.truncate(kept);
        scores.shrink_to(kept);
        self.scores = scores;
    }

    fn forward(&mut self, parts: &[Part], scores: &mut Vec<f32>) -> Result<(), Error> {
        // Counted as it begins, so that the count stands still once a cancel was seen.
        self.parts.queue.counters().count_step();
        let running = &self.running;
        let sequences = parts.iter().map(|part| {
            let sequence = find(running, part);
            SequencePlan {
                tokens: sequence.unread(part.tokens, part.drafts),
                position: sequence.position(),
                blocks: sequence.blocks(),
                adapter: sequence
                    .plan()
                    .adapter
                    .as_ref()
                    .map(|loaded| &loaded.adapter),
                logits: match part.tokens == sequence.unread_count() {
                    true if part.drafts > 0 => LogitsOf::EveryToken,
                    true => LogitsOf::LastToken,
                    false => LogitsOf::Nothing,
                },
            }
        });
        let only = (parts.len() == 1).then(|| find(running, &parts[0]));
        let is_abandoned = || only.is_some_and(|sequence| sequence.end_reason().is_some());
        let plan = BatchPlan {
            sequences: sequences.collect(),
            is_abandoned: &is_abandoned,
        };
        let model = &mut self.parts.model;
        // One bad step must not take the model away from all later ones. What a panic may leave
        // half-done are the blocks of the sequences in the step, which end with it.
        catch_unwind(AssertUnwindSafe(|| model.forward(&plan, scores)))
            .unwrap_or(Err(Error::WorkerPanicked))
    }

    /// Takes note of what was read, and lets each sequence whose scores came back go on.
    fn apply(&mut self, parts: &[Part], scores: &mut [f32]) {
        let vocabulary = self.parts.model.vocabulary();
        let mut rest = scores;
        let mut rows = BTreeMap::new();
        for part in parts {
            let Some(sequence) = self.running.iter_mut().find(|s| s.rank() == part.rank) else {
                continue;
            };
            sequence.advance(part.tokens, &mut self.pool);
            self.served.serve(sequence.caller(), part.tokens, 0);
            if sequence.unread_count() == 0 {
                let length = ((1 + part.drafts) * vocabulary).min(rest.len());
                let (of_part, others) = rest.split_at_mut(length);
                rows.insert(part.rank, of_part);
                rest = others;
            }
        }
        for choice in self.choose(rows) {
            let found = self.running.iter().position(|s| s.rank() == choice.rank);
            let Some(index) = found else { continue };
            // Drafts that were right have been read too; wrong ones are nobody's wish.
            let read = choice.made.saturating_sub(1);
            self.served
                .serve(self.running[index].caller(), read, choice.made);
            if let Some(result) = choice.end {
                let sequence = self.running.remove(index);
                self.end(sequence, result);
            }
        }
        for sequence in &mut self.running {
            sequence.keep_drafts(&mut self.pool);
        }
    }

    /// Chooses the next tokens of each of these sequences. Sequences know nothing of each other, and a mask or a draw over a large vocabulary takes its time: so all
    /// cores share them.
    fn choose(&mut self, mut rows: BTreeMap<Rank, &mut [f32]>) -> Vec<Chosen> {
        let vocabulary = self.parts.model.vocabulary();
        let choosing: Vec<_> = self
            .running
            .iter_mut()
            .filter_map(|sequence| {
                let rows = rows.remove(&sequence.rank())?;
                Some((sequence, rows))
            })
            .collect();
        let outcome = |(sequence, rows): (&mut Sequence, &mut [f32])| {
            let before = sequence.completion_tokens();
            let end = sequence.choose(rows, vocabulary).transpose();
            Chosen {
                rank: sequence.rank(),
                made: sequence.completion_tokens() - before,
                end,
            }
        };
        match choosing.len() {
            // To wake the others takes longer than one choice.
            1 => choosing.into_iter().map(outcome).collect(),
            _ => choosing.into_par_iter().map(outcome).collect(),
        }
    }

    /// A step has failed: everything in it ends with an error.
    fn fail(&mut self, parts: &[Part], error: Error) {
        tracing::error!(error = &error as &dyn std::error::Error, "a step failed");
        let is_in_step = |s: &Sequence| parts.iter().any(|part| part.rank == s.rank());
        for sequence in take_if(&mut self.running, is_in_step) {
            self.end(sequence, Err(Error::StepFailed));
        }
    }

    fn end(&mut self, mut sequence: Sequence, result: Result<FinishReason, Error>) {
        sequence.release(&mut self.pool);
        self.served.leave(sequence.caller());
        if matches!(result, Err(Error::Cancelled | Error::DeadlineExceeded)) {
            self.parts.queue.counters().count_cancelled();
        }
        // The figures are true before the caller can look at them.
        self.report();
        sequence.end(result);
    }
}

fn find<'a>(running: &'a [Sequence], part: &Part) -> &'a Sequence {
    let found = running.iter().find(|sequence| sequence.rank() == part.rank);
    found.expect("a planned sequence runs until the step has ended")
}

/// Removes the sequences for which `is_wanted` holds, and keeps the others in order.
fn take_if(sequences: &mut Vec<Sequence>, is_wanted: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
    sequences
        .extract_if(.., |sequence| is_wanted(sequence))
        .collect()
}
