//! What the router records of the servers it sends requests to.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{self, Counters, Gauges, number};
use super::labels::BreakerState;

/// The numbers of one upstream, by its name in the configuration.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    handles: Arc<Handles>,
}

#[derive(Debug)]
struct Handles {
    outstanding: Gauge,
    breaker: Gauge,
    requests: Counter,
    failures: Counter,
}

pub(super) struct UpstreamFamilies {
    outstanding: Gauges,
    breaker: Gauges,
    requests: Counters,
    failures: Counters,
}

impl UpstreamMetrics {
    /// Tokens asked for and not yet received.
    pub fn set_outstanding_tokens(&self, tokens: u64) {
        self.handles.outstanding.set(number(tokens));
    }

    pub fn set_breaker(&self, state: BreakerState) {
        self.handles.breaker.set(state.number());
    }

    /// A request was sent to it.
    pub fn requested(&self) {
        self.handles.requests.inc();
    }

    /// A request or a health check failed by its fault.
    pub fn failed(&self) {
        self.handles.failures.inc();
    }
}

impl UpstreamFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            outstanding: families::gauges(
                registry,
                "upstream_outstanding_tokens",
                "Tokens asked of an upstream and not yet received",
            ),
            breaker: families::gauges(
                registry,
                "upstream_breaker_state",
                "0: the upstream is asked, 1: one request finds out, 2: it is not asked",
            ),
            requests: families::counters(
                registry,
                "upstream_requests",
                "Requests sent to an upstream",
            ),
            failures: families::counters(
                registry,
                "upstream_failures",
                "Requests and health checks that failed by the upstream's fault",
            ),
        }
    }

    pub(super) fn handles(&self, upstream: &str) -> UpstreamMetrics {
        let labels = vec![("upstream", upstream.to_owned())];
        let handles = Handles {
            outstanding: self.outstanding.get_or_create_owned(&labels),
            breaker: self.breaker.get_or_create_owned(&labels),
            requests: self.requests.get_or_create_owned(&labels),
            failures: self.failures.get_or_create_owned(&labels),
        };
        UpstreamMetrics {
            handles: Arc::new(handles),
        }
    }
}
