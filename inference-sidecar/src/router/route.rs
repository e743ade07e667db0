//! A model served elsewhere: its upstreams, what runs on each, and the choice among them.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::model::GenerationRequest;

use super::breaker::{Breaker, BreakerSettings, BreakerState};
use super::config::{RouteConfig, UpstreamConfig};
use super::counters::UpstreamCounters;
use super::failure::Failure;
use super::upstream::Upstream;
use crate::error::Error;

/// A model and the servers that run it.
pub(super) struct Route {
    pub model: String,
    pub tokens_max: u32,
    pub upstreams: Vec<Upstream>,
    loads: Mutex<Loads>,
}

/// What runs where; one lock, so that a choice and its consequences are one step.
struct Loads {
    loads: Vec<Load>,
    /// Where the search begins, so that equals take turns.
    next: usize,
}

struct Load {
    running: u32,
    outstanding_tokens: u64,
    breaker: Breaker,
}

/// A request's place at an upstream, given back when dropped.
pub(super) struct Ticket {
    route: Arc<Route>,
    index: usize,
    tokens: u64,
    has_verdict: bool,
    has_first_token: bool,
    is_finished: bool,
}

/// Why no upstream was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Those that work are full.
    Full,
    /// None works, or each has been tried.
    NoneLeft,
}

/// The load of an upstream at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadView {
    pub running: u32,
    pub outstanding_tokens: u64,
    pub breaker: BreakerState,
}

impl Route {
    /// Reads the files that the configuration names.
    pub fn new(config: &RouteConfig, allowed_hosts: &[String]) -> Result<Self, Error> {
        if config.upstreams.is_empty() {
            return Err(Error::route(format!(
                "model \"{}\" has no upstream",
                config.model
            )));
        }
        let upstreams = config.upstreams.iter();
        let upstreams: Vec<_> = upstreams
            .map(|upstream| Upstream::new(upstream, allowed_hosts))
            .collect::<Result<_, _>>()?;
        let loads = config.upstreams.iter().map(Load::new).collect();
        Ok(Self {
            model: config.model.clone(),
            tokens_max: config.tokens_max,
            upstreams,
            loads: Mutex::new(Loads { loads, next: 0 }),
        })
    }

    /// Takes the upstream with the fewest outstanding tokens among those that are healthy, have a
    /// place free and are not in `excluded`.
    pub fn choose(self: &Arc<Self>, tokens: u64, excluded: &[usize]) -> Result<Ticket, Refusal> {
        let mut guard = self.lock();
        let loads = &mut *guard;
        let count = loads.loads.len();
        let is_candidate =
            |&index: &usize| !excluded.contains(&index) && loads.loads[index].breaker.is_passable();
        let order = (0..count).map(|step| (loads.next + step) % count);
        let candidates: Vec<_> = order.filter(is_candidate).collect();
        let has_place = |index: &usize| {
            loads.loads[*index].running < self.upstreams[*index].config.requests_max
        };
        let least = candidates
            .iter()
            .copied()
            .filter(has_place)
            .min_by_key(|&index| loads.loads[index].outstanding_tokens);
        let index = match least {
            Some(index) => index,
            None if candidates.is_empty() => return Err(Refusal::NoneLeft),
            None => return Err(Refusal::Full),
        };
        loads.next = (index + 1) % count;
        let load = &mut loads.loads[index];
        load.running += 1;
        load.outstanding_tokens += tokens;
        load.breaker.request_started();
        UpstreamCounters::add(&self.upstreams[index].counters.requests, 1);
        Ok(Ticket {
            route: self.clone(),
            index,
            tokens,
            has_verdict: false,
            has_first_token: false,
            is_finished: false,
        })
    }

    pub fn load(&self, index: usize) -> LoadView {
        let loads = self.lock();
        let load = &loads.loads[index];
        LoadView {
            running: load.running,
            outstanding_tokens: load.outstanding_tokens,
            breaker: load.breaker.state(),
        }
    }

    /// When the next health check of an upstream makes sense, if not as usual.
    pub fn check_due(&self, index: usize) -> Option<Instant> {
        self.lock().loads[index].breaker.check_due()
    }

    /// Notes the outcome of a health check.
    pub fn checked(&self, index: usize, outcome: Result<(), Failure>) {
        let upstream = &self.upstreams[index];
        let (has_opened, before, after) = {
            let mut loads = self.lock();
            let breaker = &mut loads.loads[index].breaker;
            let before = breaker.state();
            let now = Instant::now();
            let has_opened = match &outcome {
                Ok(()) => {
                    breaker.check_passed(now);
                    false
                }
                Err(_) => breaker.check_failed(now),
            };
            (has_opened, before, breaker.state())
        };
        if has_opened {
            UpstreamCounters::add(&upstream.counters.breaker_openings, 1);
        }
        match outcome {
            Err(failure) if has_opened => tracing::warn!(
                model = self.model,
                upstream = upstream.name,
                error = &failure as &dyn std::error::Error,
                "upstream is taken out: it fails its health checks"
            ),
            Ok(()) if before != after => tracing::info!(
                model = self.model,
                upstream = upstream.name,
                "upstream answers health checks again"
            ),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loads> {
        // Nothing panics while it is held; were it so, the numbers would still be usable.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    fn new(config: &UpstreamConfig) -> Self {
        Self {
            running: 0,
            outstanding_tokens: 0,
            breaker: Breaker::new(BreakerSettings {
                failures_max: config.failures_max,
                backoff: Duration::from_millis(config.backoff_ms),
                backoff_max: Duration::from_millis(config.backoff_max_ms),
            }),
        }
    }
}

impl Ticket {
    pub fn index(&self) -> usize {
        self.index
    }

    pub fn upstream(&self) -> &Upstream {
        &self.route.upstreams[self.index]
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    /// True when the upstream has sent a token.
    pub fn has_first_token(&self) -> bool {
        self.has_first_token
    }

    /// Gives the place back: nothing was sent.
    pub fn unused(mut self) {
        self.is_finished = true;
        self.upstream().counters.requests.fetch_sub(1, Relaxed);
    }

    /// The first token has come: the upstream works.
    pub fn first_token(&mut self) {
        self.has_verdict = true;
        self.has_first_token = true;
        let mut loads = self.route.lock();
        loads.loads[self.index].breaker.request_succeeded();
    }

    /// The answer is complete.
    pub fn finished(&mut self, completion_tokens: u32) {
        self.is_finished = true;
        let counters = &self.upstream().counters;
        UpstreamCounters::add(&counters.completion_tokens, completion_tokens.into());
    }

    /// The attempt has failed; a fault counts against the upstream.
    pub fn failed(&mut self, failure: &Failure, is_started: bool) {
        self.is_finished = true;
        let counters = &self.upstream().counters;
        match failure {
            Failure::Deadline => UpstreamCounters::add(&counters.cancelled, 1),
            Failure::Overloaded { .. } => UpstreamCounters::add(&counters.overloaded, 1),
            _ if is_started => UpstreamCounters::add(&counters.broken_answers, 1),
            _ => UpstreamCounters::add(&counters.failed_requests, 1),
        }
        if !failure.is_fault() {
            return;
        }
        self.has_verdict = true;
        let has_opened = {
            let mut loads = self.route.lock();
            loads.loads[self.index]
                .breaker
                .request_failed(Instant::now())
        };
        if has_opened {
            UpstreamCounters::add(&self.upstream().counters.breaker_openings, 1);
            self.upstream().taken_out.notify_one();
            tracing::warn!(
                model = self.route.model,
                upstream = self.upstream().name,
                "upstream is taken out: it fails requests"
            );
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_finished {
            UpstreamCounters::add(&self.upstream().counters.cancelled, 1);
        }
        let mut loads = self.route.lock();
        let load = &mut loads.loads[self.index];
        load.running -= 1;
        load.outstanding_tokens -= self.tokens;
        if !self.has_verdict {
            load.breaker.request_abandoned();
        }
    }
}

/// What a request may cost, in tokens: about four bytes of prompt make one.
pub(super) fn cost(request: &GenerationRequest) -> u64 {
    let bytes: usize = request.messages.iter().map(|m| m.content.len()).sum();
    bytes as u64 / 4 + u64::from(request.tokens_max)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
