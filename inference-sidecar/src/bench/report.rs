//! What came out, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::BenchArguments;
use super::load::{Outcome, Sample};

/// The result of a measurement. Times are in milliseconds, rates per second of the whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: Option<String>,
    concurrency: u32,
    seed: u64,
    shared_prefix_percent: u32,
    requests: usize,
    failed: usize,
    refusals: u32,
    seconds: f64,
    requests_per_second: f64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_per_second: f64,
    completion_tokens_per_second: f64,
    time_to_first_token_ms: Distribution,
    inter_token_latency_ms: Distribution,
    request_latency_ms: Distribution,
}

/// Nearest-rank percentiles; all 0 when nothing was measured.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Distribution {
    pub median: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Report {
    pub(super) fn new(arguments: &BenchArguments, outcome: Outcome) -> Self {
        let samples = &outcome.samples;
        let sum = |count: fn(&Sample) -> u32| samples.iter().map(|s| u64::from(count(s))).sum();
        let seconds = outcome.elapsed.as_secs_f64();
        let rate = |count: u64| count as f64 / seconds.max(f64::MIN_POSITIVE);
        let prompt_tokens = sum(|sample| sample.prompt_tokens);
        let completion_tokens = sum(|sample| sample.completion_tokens);
        Self {
            model: arguments.model.clone(),
            concurrency: arguments.concurrency,
            seed: arguments.seed,
            shared_prefix_percent: arguments.shared_prefix,
            requests: samples.len(),
            failed: outcome.failures.len(),
            refusals: outcome.refusals,
            seconds,
            requests_per_second: rate(samples.len() as u64),
            prompt_tokens,
            cached_tokens: sum(|sample| sample.cached_tokens),
            completion_tokens,
            prompt_tokens_per_second: rate(prompt_tokens),
            completion_tokens_per_second: rate(completion_tokens),
            time_to_first_token_ms: Distribution::of(samples.iter().map(|s| s.first_token)),
            inter_token_latency_ms: Distribution::of(
                samples.iter().flat_map(|s| s.gaps.iter().copied()),
            ),
            request_latency_ms: Distribution::of(samples.iter().map(|s| s.total)),
        }
    }
}

impl Distribution {
    pub(super) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self {
            median: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
            max: percentile(100),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} requests, {} at a time, {} failed, {} refusals, {:.1} s",
            self.requests, self.concurrency, self.failed, self.refusals, self.seconds
        )?;
        writeln!(
            formatter,
            "{:.2} requests/s; prompts {:.1} tokens/s ({} tokens, {} of them cached); \
             answers {:.1} tokens/s ({} tokens)",
            self.requests_per_second,
            self.prompt_tokens_per_second,
            self.prompt_tokens,
            self.cached_tokens,
            self.completion_tokens_per_second,
            self.completion_tokens
        )?;
        writeln!(
            formatter,
            "{:<22} {:>10} {:>10} {:>10} {:>10}",
            "milliseconds", "median", "p95", "p99", "max"
        )?;
        for (name, times) in [
            ("time to first token", &self.time_to_first_token_ms),
            ("inter-token latency", &self.inter_token_latency_ms),
            ("whole request", &self.request_latency_ms),
        ] {
            writeln!(
                formatter,
                "{name:<22} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
                times.median, times.p95, times.p99, times.max
            )?;
        }
        Ok(())
    }
}
