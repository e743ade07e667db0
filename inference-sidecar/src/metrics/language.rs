//! What the engine of a language model records.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{self, Counters, Gauges, Histograms, number};
use super::requests::{RequestFamilies, RequestMetrics};

/// The numbers of one language model.
#[derive(Debug, Clone)]
pub struct LanguageMetrics {
    handles: Arc<Handles>,
}

/// Blocks of 16 tokens at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KvBlocks {
    pub total: usize,
    /// Held by running or preempted sequences.
    pub used: usize,
    /// Held by nobody, kept for prompts with the same beginning.
    pub cached: usize,
}

#[derive(Debug)]
struct Handles {
    requests: RequestMetrics,
    first_token: Histogram,
    inter_token: Histogram,
    prefill: Histogram,
    decode: Histogram,
    step_tokens: Histogram,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    kv_total: Gauge,
    kv_used: Gauge,
    kv_cached: Gauge,
    prefix_queries: Counter,
    prefix_hits: Counter,
    preemptions: Counter,
    drafts: Counter,
    accepted_drafts: Counter,
}

pub(super) struct LanguageFamilies {
    first_token: Histograms,
    inter_token: Histograms,
    prefill: Histograms,
    decode: Histograms,
    step_tokens: Histograms,
    prompt_tokens: Counters,
    generation_tokens: Counters,
    kv_total: Gauges,
    kv_used: Gauges,
    kv_cached: Gauges,
    prefix_queries: Counters,
    prefix_hits: Counters,
    preemptions: Counters,
    drafts: Counters,
    accepted_drafts: Counters,
}

impl LanguageMetrics {
    /// Running, waiting, queue time, ends.
    pub fn requests(&self) -> &RequestMetrics {
        &self.handles.requests
    }

    /// One step of the engine computed `tokens` of all its sequences together.
    pub fn step(&self, tokens: usize) {
        self.handles.step_tokens.observe(tokens as f64);
    }

    /// A prompt of `tokens` was admitted, of which the prefix cache holds `cached`.
    /// Not again when a preempted sequence comes back.
    pub fn prompt_admitted(&self, tokens: usize, cached: usize) {
        self.handles.prompt_tokens.inc_by(tokens as u64);
        self.handles.prefix_queries.inc_by(tokens as u64);
        self.handles.prefix_hits.inc_by(cached as u64);
    }

    /// The first token of an answer, `since_arrival` after the request came and `prefill` after its
    /// first step.
    pub fn first_token(&self, since_arrival: Duration, prefill: Duration) {
        self.handles.generation_tokens.inc();
        self.handles
            .first_token
            .observe(since_arrival.as_secs_f64());
        self.handles.prefill.observe(prefill.as_secs_f64());
    }

    /// A further token of an answer, `gap` after the one before.
    pub fn next_token(&self, gap: Duration) {
        self.handles.generation_tokens.inc();
        self.handles.inter_token.observe(gap.as_secs_f64());
    }

    /// An answer ended, `decode` after its first token.
    pub fn decoded(&self, decode: Duration) {
        self.handles.decode.observe(decode.as_secs_f64());
    }

    /// The state of the block pool.
    pub fn set_kv_blocks(&self, blocks: KvBlocks) {
        self.handles.kv_total.set(number(blocks.total));
        self.handles.kv_used.set(number(blocks.used));
        self.handles.kv_cached.set(number(blocks.cached));
    }

    /// A step read `drafts` ahead, of which the model chose the first `accepted` itself.
    pub fn drafted(&self, drafts: usize, accepted: usize) {
        self.handles.drafts.inc_by(drafts as u64);
        self.handles.accepted_drafts.inc_by(accepted as u64);
    }

    /// A sequence was put back to wait because blocks were short.
    pub fn preempted(&self) {
        self.handles.preemptions.inc();
    }
}

impl LanguageFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = |registry: &mut Registry, name, help| {
            families::histograms(registry, name, help, families::REQUEST_SECONDS)
        };
        Self {
            first_token: families::histograms(
                registry,
                "time_to_first_token_seconds",
                "Time from arrival to the first token",
                families::FIRST_TOKEN_SECONDS,
            ),
            inter_token: families::histograms(
                registry,
                "inter_token_latency_seconds",
                "Time from one token of an answer to its next",
                families::INTER_TOKEN_SECONDS,
            ),
            prefill: seconds(
                registry,
                "request_prefill_time_seconds",
                "Time from the first step to the first token",
            ),
            decode: seconds(
                registry,
                "request_decode_time_seconds",
                "Time from the first token to the last",
            ),
            step_tokens: families::histograms(
                registry,
                "iteration_tokens",
                "Tokens computed by one step",
                families::STEP_TOKENS,
            ),
            prompt_tokens: families::counters(
                registry,
                "prompt_tokens",
                "Tokens of admitted prompts, cached ones included",
            ),
            generation_tokens: families::counters(registry, "generation_tokens", "Tokens made"),
            kv_total: families::gauges(
                registry,
                "kv_cache_blocks_total",
                "Blocks of 16 tokens for keys and values",
            ),
            kv_used: families::gauges(
                registry,
                "kv_cache_blocks_used",
                "Blocks that sequences hold",
            ),
            kv_cached: families::gauges(
                registry,
                "kv_cache_blocks_cached",
                "Free blocks whose content may serve again",
            ),
            prefix_queries: families::counters(
                registry,
                "prefix_cache_queries",
                "Prompt tokens looked up in the prefix cache",
            ),
            prefix_hits: families::counters(
                registry,
                "prefix_cache_hits",
                "Prompt tokens that the prefix cache held",
            ),
            preemptions: families::counters(
                registry,
                "preemptions",
                "Sequences put back to wait because blocks were short",
            ),
            drafts: families::counters(
                registry,
                "spec_decode_num_draft_tokens",
                "Tokens read ahead because they followed the same tokens before",
            ),
            accepted_drafts: families::counters(
                registry,
                "spec_decode_num_accepted_tokens",
                "Tokens read ahead that the model then chose itself",
            ),
        }
    }

    pub(super) fn handles(&self, requests: &RequestFamilies, model: &str) -> LanguageMetrics {
        let labels = vec![("model", model.to_owned())];
        let handles = Handles {
            requests: requests.handles(model),
            first_token: self.first_token.get_or_create_owned(&labels),
            inter_token: self.inter_token.get_or_create_owned(&labels),
            prefill: self.prefill.get_or_create_owned(&labels),
            decode: self.decode.get_or_create_owned(&labels),
            step_tokens: self.step_tokens.get_or_create_owned(&labels),
            prompt_tokens: self.prompt_tokens.get_or_create_owned(&labels),
            generation_tokens: self.generation_tokens.get_or_create_owned(&labels),
            kv_total: self.kv_total.get_or_create_owned(&labels),
            kv_used: self.kv_used.get_or_create_owned(&labels),
            kv_cached: self.kv_cached.get_or_create_owned(&labels),
            prefix_queries: self.prefix_queries.get_or_create_owned(&labels),
            prefix_hits: self.prefix_hits.get_or_create_owned(&labels),
            preemptions: self.preemptions.get_or_create_owned(&labels),
            drafts: self.drafts.get_or_create_owned(&labels),
            accepted_drafts: self.accepted_drafts.get_or_create_owned(&labels),
        };
        LanguageMetrics {
            handles: Arc::new(handles),
        }
    }
}
