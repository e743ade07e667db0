//! One text in the making: its tokens, how far the model has read them, and who waits for it.

use std::time::{Duration, Instant};

use proto::model::Priority;
use proto::wire::FinishReason;

use crate::error::Error;
use crate::metrics::{Ending, LanguageMetrics};
use crate::models::{BlockId, KV_BLOCK_TOKENS};
use crate::scheduler::counters::{Running, Waiting};
use crate::scheduler::drafts::Drafter;
use crate::scheduler::kv_blocks::{BlockPool, PrefixKey};
use crate::scheduler::room::Claim;
use crate::scheduler::{ConstraintState, GenerationEvent, GenerationJob, GenerationPlan, Job};
use crate::text::TextWriter;

/// A sequence of the engine. It holds blocks only while it runs.
pub(super) struct Sequence {
    job: GenerationJob,
    /// Order of arrival at the engine.
    number: u64,
    /// Prompt and text.
    tokens: Vec<u32>,
    /// Tokens whose keys and values lie in `blocks`.
    computed: usize,
    blocks: Vec<BlockId>,
    drafter: Drafter,
    /// The last token and the drafts behind it, where the next step reads drafts.
    ahead: Vec<u32>,
    /// Names of the blocks that are full; None shares nothing.
    keys: Option<Vec<PrefixKey>>,
    root: PrefixKey,
    writer: TextWriter,
    cached_tokens: usize,
    /// When it first ran; None before that.
    admitted: Option<Instant>,
    /// When the prompt had been read; None before that.
    prompt_read: Option<Instant>,
    /// When the last token was made.
    last_token: Instant,
    metrics: LanguageMetrics,
    /// Until it first runs.
    waiting: Option<Waiting>,
    /// From then on to its end.
    running: Option<Running>,
}

/// A job that has left the queue.
pub(super) struct Arrival {
    pub job: GenerationJob,
    pub number: u64,
    pub waiting: Waiting,
}

/// Who comes first: interactive before background, then in order of arrival.
pub(super) type Rank = (Priority, u64);

impl Sequence {
    pub(super) fn new(arrival: Arrival, model_sha256: &str, metrics: LanguageMetrics) -> Self {
        let Arrival {
            job,
            number,
            waiting,
        } = arrival;
        let GenerationPlan {
            prompt,
            tokenizer,
            stop,
            adapter,
            caller,
            ..
        } = &job.plan;
        let adapter = adapter.as_ref().map(|adapter| &adapter.identity);
        let root = PrefixKey::root(model_sha256, adapter, &caller.cache_salt);
        Self {
            number,
            tokens: prompt.clone(),
            computed: 0,
            blocks: Vec::new(),
            drafter: Drafter::new(),
            ahead: Vec::new(),
            keys: (!caller.cache_salt.is_empty()).then(Vec::new),
            root,
            writer: TextWriter::new(tokenizer.clone(), stop.clone()),
            cached_tokens: 0,
            admitted: None,
            prompt_read: None,
            last_token: Instant::now(),
            metrics,
            waiting: Some(waiting),
            running: None,
            job,
        }
    }

    pub(super) fn rank(&self) -> Rank {
        (self.job.call.priority, self.number)
    }

    pub(super) fn plan(&self) -> &GenerationPlan {
        &self.job.plan
    }

    pub(super) fn caller(&self) -> &str {
        &self.job.plan.caller.name
    }

    pub(super) fn position(&self) -> usize {
        self.computed
    }

    pub(super) fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// The next `count` tokens that the model has not read, and `drafts` behind the last.
    pub(super) fn unread(&self, count: usize, drafts: usize) -> &[u32] {
        match drafts {
            0 => &self.tokens[self.computed..][..count],
            _ => &self.ahead,
        }
    }

    pub(super) fn unread_count(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// What it holds, and what it needs before its next token can be chosen.
    pub(super) fn claim(&mut self) -> Claim<'_> {
        let held = self.blocks.len();
        // Drafts that proved wrong may have left a block more.
        let wanted = self.tokens.len().div_ceil(KV_BLOCK_TOKENS);
        let wanted = wanted.saturating_sub(held);
        // As in `reuse`: only behind full blocks, and never the block of the last token.
        let shareable = (self.tokens.len() - 1) / KV_BLOCK_TOKENS;
        if held * KV_BLOCK_TOKENS == self.computed && held < shareable {
            self.key(shareable - 1);
        }
        let prefix = match &self.keys {
            Some(keys) if held * KV_BLOCK_TOKENS == self.computed => {
                &keys[held.min(shareable)..shareable.min(keys.len())]
            }
            _ => &[],
        };
        Claim {
            rank: (self.job.call.priority, self.number),
            held: &self.blocks,
            wanted,
            prefix,
        }
    }

    /// True when its caller waits for the first token.
    pub(super) fn is_new(&self) -> bool {
        self.prompt_read.is_none()
    }

    /// It runs from now on, for the first time or again.
    pub(super) fn admit(&mut self) {
        self.admitted.get_or_insert_with(Instant::now);
        if let Some(waiting) = self.waiting.take() {
            self.running = Some(waiting.run());
        }
    }

    /// True when it has never run.
    pub(super) fn is_fresh(&self) -> bool {
        self.admitted.is_none()
    }

    /// Why it must end now, if nobody waits for it any more.
    pub(super) fn end_reason(&self) -> Option<Error> {
        if self.job.is_abandoned() {
            Some(Error::Cancelled)
        } else if self.job.call.is_expired() {
            Some(Error::DeadlineExceeded)
        } else {
            None
        }
    }

    /// The key of the next full block behind what is computed, if it may be shared.
    pub(super) fn next_key(&mut self) -> Option<PrefixKey> {
        let block = self.computed / KV_BLOCK_TOKENS;
        // The last token is always read: its scores are wanted.
        let is_full = (block + 1) * KV_BLOCK_TOKENS < self.tokens.len();
        if !self.computed.is_multiple_of(KV_BLOCK_TOKENS) || !is_full {
            return None;
        }
        self.key(block)
    }

    /// Takes over blocks that others have computed, as many as there are.
    pub(super) fn reuse(&mut self, pool: &mut BlockPool) -> usize {
        let before = self.computed;
        while self.blocks.len() * KV_BLOCK_TOKENS == self.computed
            && let Some(key) = self.next_key()
            && let Some(block) = pool.take_cached(&key)
        {
            self.blocks.push(block);
            self.computed += KV_BLOCK_TOKENS;
        }
        let reused = self.computed - before;
        if self.is_new() {
            self.cached_tokens += reused;
        }
        reused
    }

    /// Holds the blocks for `count` more tokens; false when the pool is short of them.
    pub(super) fn hold(&mut self, count: usize, pool: &mut BlockPool) -> bool {
        let wanted = (self.computed + count).div_ceil(KV_BLOCK_TOKENS);
        while self.blocks.len() < wanted {
            match pool.take_new(self.blocks.last().copied()) {
                Some(block) => self.blocks.push(block),
                None => return false,
            }
        }
        true
    }

    /// Drafts what may follow the last token, in the blocks it holds for that token and, with
    /// `takes_block`, one more; returns the number of drafts.
    pub(super) fn draft(&mut self, most: usize, takes_block: bool, pool: &mut BlockPool) -> usize {
        self.ahead.clear();
        if self.is_new() || self.unread_count() != 1 {
            return 0;
        }
        // The token that follows the drafts is chosen as well.
        let left = self.job.plan.tokens_max - self.completion_tokens() - 1;
        let held = self.blocks.len() + usize::from(takes_block);
        let room = (held * KV_BLOCK_TOKENS).saturating_sub(self.tokens.len());
        let drafts = self.drafter.propose(&self.tokens, most.min(left).min(room));
        let count = drafts.len();
        if count > 0 {
            self.ahead.extend(self.tokens.last());
            self.ahead.extend_from_slice(drafts);
            if self.hold(1 + count, pool) {
                return count;
            }
            self.ahead.clear();
        }
        0
    }

    /// The drafts that the model has chosen are read already.
    pub(super) fn keep_drafts(&mut self, pool: &mut BlockPool) {
        if !self.ahead.is_empty() {
            self.ahead.clear();
            self.advance(self.unread_count() - 1, pool);
        }
    }

    /// Gives all blocks back: it will be read again from the start, as far as others do not hold it.
    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        // The end goes first, so that the beginning stays in the cache for longest.
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
        self.computed = 0;
        self.ahead.clear();
        if self.is_new() {
            self.cached_tokens = 0;
        }
    }

    /// The model has read `count` more tokens.
    pub(super) fn advance(&mut self, count: usize, pool: &mut BlockPool) {
        let full_before = self.computed / KV_BLOCK_TOKENS;
        self.computed += count;
        for block in full_before..self.computed / KV_BLOCK_TOKENS {
            if let Some(key) = self.key(block) {
                pool.publish(self.blocks[block], key);
            }
        }
    }

    /// Chooses the next tokens from the scores of the last one and of the drafts behind it, as long as
    /// these prove right; returns why the text ends here, if it does.
    pub(super) fn choose(
        &mut self,
        rows: &mut [f32],
        vocabulary: usize,
    ) -> Result<Option<FinishReason>, Error> {
        self.start()?;
        let drafts = self.ahead.len().saturating_sub(1);
        let mut accepted = 0;
        let mut rows = rows.chunks_exact_mut(vocabulary);
        let end = loop {
            // Scores that are missing are refused like those without a number.
            let scores = rows.next().ok_or(Error::NotANumber)?;
            let end = self.choose_next(scores)?;
            let is_right = self.tokens.last() == self.ahead.get(accepted + 1);
            if end.is_some() || accepted == drafts || !is_right {
                break end;
            }
            accepted += 1;
        };
        if drafts > 0 {
            self.drafter.learn(drafts, accepted);
            self.metrics.drafted(drafts, accepted);
        }
        Ok(end)
    }

    /// Chooses a token from the scores of the one before.
    fn choose_next(&mut self, scores: &mut [f32]) -> Result<Option<FinishReason>, Error> {
        if self.is_complete() {
            return Ok(Some(FinishReason::End));
        }
        let plan = &mut self.job.plan;
        let choice = plan
            .sampler
            .choose(scores, &self.tokens, plan.constraint.as_mut())?;
        if plan.tokenizer.is_end(choice.token) {
            return Ok(Some(FinishReason::End));
        }
        let token = choice.token;
        self.tokens.push(token);
        self.note_token();
        if self.job.plan.sends_logprobs {
            self.send(GenerationEvent::Token(choice))?;
        }
        let text = self.writer.push(token);
        self.send_text(text)?;
        if self.writer.is_stopped() {
            return Ok(Some(FinishReason::Stop));
        }
        if let Some(constraint) = &mut self.job.plan.constraint {
            constraint.accept(token)?;
        }
        if self.is_complete() {
            return Ok(Some(FinishReason::End));
        }
        if self.completion_tokens() < self.job.plan.tokens_max {
            return Ok(None);
        }
        let tokens_max = self.job.plan.tokens_max;
        let constraint = self.job.plan.constraint.as_mut();
        if constraint.is_some_and(|constraint| !constraint.is_accepting()) {
            return Err(Error::ConstraintUnfinished { tokens_max });
        }
        Ok(Some(FinishReason::Length))
    }

    /// Tells the caller how it ended, and the log.
    pub(super) fn end(mut self, result: Result<FinishReason, Error>) {
        // Not counted any more when the caller hears of the end.
        self.waiting = None;
        self.running = None;
        tracing::info!(
            request_id = %self.job.call.request_id,
            model = self.job.call.model,
            prompt_tokens = self.job.plan.prompt.len(),
            cached_tokens = self.cached_tokens,
            completion_tokens = self.completion_tokens(),
            queue_ms = self.queue_ms(),
            run_ms = self.run_time().as_millis() as u64,
            outcome = Error::outcome(&result),
            "generation ended"
        );
        let error = match result.and_then(|reason| self.finish(reason)) {
            Ok(()) => return,
            Err(error) => error,
        };
        let ending = match error {
            Error::Cancelled => {
                self.metrics.requests().cancelled();
                return;
            }
            Error::DeadlineExceeded => Ending::DeadlineExceeded,
            Error::ConstraintUnfinished { .. } => Ending::ConstraintUnfinished,
            _ => Ending::Failed,
        };
        self.note_end(ending);
        self.job.fail(error);
    }

    fn note_token(&mut self) {
        let now = Instant::now();
        if self.completion_tokens() == 1 {
            let since_arrival = now - self.job.call.received;
            self.metrics.first_token(since_arrival, self.run_time());
        } else {
            self.metrics.next_token(now - self.last_token);
        }
        self.last_token = now;
    }

    fn note_end(&self, ending: Ending) {
        if let Some(start) = self.prompt_read {
            self.metrics.decoded(start.elapsed());
        }
        let latency = self.job.call.received.elapsed();
        self.metrics.requests().finished(ending, latency);
    }

    /// True when the constraint lets nothing follow.
    fn is_complete(&mut self) -> bool {
        let constraint = self.job.plan.constraint.as_mut();
        constraint.is_some_and(ConstraintState::is_complete)
    }

    pub(super) fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.job.plan.prompt.len()
    }

    fn queue_ms(&self) -> u32 {
        self.queue_time().as_millis() as u32
    }

    /// From the arrival until it first ran.
    fn queue_time(&self) -> Duration {
        let until = self.admitted.unwrap_or_else(Instant::now);
        until - self.job.call.received
    }

    /// Since it first ran.
    fn run_time(&self) -> Duration {
        self.admitted
            .map_or(Duration::ZERO, |start| start.elapsed())
    }

    fn start(&mut self) -> Result<(), Error> {
        if self.prompt_read.is_some() {
            return Ok(());
        }
        self.prompt_read = Some(Instant::now());
        let prompt_tokens = self.job.plan.prompt.len();
        self.metrics
            .prompt_admitted(prompt_tokens, self.cached_tokens);
        self.metrics.requests().started(self.queue_time());
        self.send(GenerationEvent::Started {
            prompt_tokens: self.job.plan.prompt.len() as u32,
            cached_tokens: self.cached_tokens as u32,
            queue_ms: self.queue_ms(),
            prompt_ms: self.run_time().as_millis() as u32,
        })
    }

    fn finish(&mut self, reason: FinishReason) -> Result<(), Error> {
        let rest = self.writer.finish();
        self.send_text(rest)?;
        let made_in = self
            .prompt_read
            .map_or(0, |start| start.elapsed().as_millis());
        if self.job.is_abandoned() {
            return Err(Error::Cancelled);
        }
        self.note_end(match reason {
            FinishReason::Stop => Ending::Stop,
            FinishReason::Length => Ending::Length,
            FinishReason::End | FinishReason::Unspecified => Ending::End,
        });
        self.send(GenerationEvent::Finished {
            reason,
            completion_tokens: self.completion_tokens() as u32,
            completion_ms: made_in as u32,
        })
    }

    fn send_text(&self, text: String) -> Result<(), Error> {
        if text.is_empty() {
            Ok(())
        } else {
            self.send(GenerationEvent::Text(text))
        }
    }

    fn send(&self, event: GenerationEvent) -> Result<(), Error> {
        // The channel has room for all events, so a failure means that the receiver is gone.
        self.job
            .events
            .try_send(Ok(event))
            .map_err(|_| Error::Cancelled)
    }

    /// The key of a full block; makes the chain up to it.
    fn key(&mut self, block: usize) -> Option<PrefixKey> {
        let keys = self.keys.as_mut()?;
        while keys.len() <= block {
            let before = keys.last().unwrap_or(&self.root);
            let tokens = &self.tokens[keys.len() * KV_BLOCK_TOKENS..][..KV_BLOCK_TOKENS];
            keys.push(before.extend(tokens));
        }
        Some(keys[block])
    }
}
