//! What requests of every kind of model have in common.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::families::{self, Counters, Gauges, Histograms, number};
use super::labels::Ending;

/// Requests to one model. Clones record into the same numbers.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    running: Gauge,
    waiting: Gauge,
    queue_time: Histogram,
    latency: Histogram,
    /// In the order of [`Ending::ALL`].
    finished: [Counter; Ending::ALL.len()],
    cancelled: Counter,
}

pub(super) struct RequestFamilies {
    running: Gauges,
    waiting: Gauges,
    queue_time: Histograms,
    latency: Histograms,
    finished: Counters,
    cancelled: Counters,
}

impl RequestMetrics {
    /// Requests that run now; a preempted one waits.
    pub fn set_running(&self, requests: usize) {
        self.running.set(number(requests));
    }

    /// Requests that wait now.
    pub fn set_waiting(&self, requests: usize) {
        self.waiting.set(number(requests));
    }

    /// A request begins to run for the first time after `queued`.
    pub fn started(&self, queued: Duration) {
        self.queue_time.observe(queued.as_secs_f64());
    }

    /// A request ended, `latency` after it arrived. Not for one that its caller left.
    pub fn finished(&self, ending: Ending, latency: Duration) {
        self.finished[ending as usize].inc();
        self.latency.observe(latency.as_secs_f64());
    }

    /// The caller of a waiting or running request left.
    pub fn cancelled(&self) {
        self.cancelled.inc();
    }
}

impl RequestFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            running: families::gauges(registry, "requests_running", "Requests that run"),
            waiting: families::gauges(registry, "requests_waiting", "Requests that wait"),
            queue_time: families::histograms(
                registry,
                "request_queue_time_seconds",
                "Time from arrival to the first step",
                families::REQUEST_SECONDS,
            ),
            latency: families::histograms(
                registry,
                "e2e_request_latency_seconds",
                "Time from arrival to the end, cancelled requests left out",
                families::REQUEST_SECONDS,
            ),
            finished: families::counters(
                registry,
                "requests_finished",
                "Requests that ended, by reason; cancelled ones left out",
            ),
            cancelled: families::counters(
                registry,
                "requests_cancelled",
                "Requests whose caller left before the end",
            ),
        }
    }

    pub(super) fn handles(&self, model: &str) -> RequestMetrics {
        let labels = vec![("model", model.to_owned())];
        let finished = Ending::ALL.map(|ending| {
            let reason = ("reason", ending.name().to_owned());
            let labels = vec![("model", model.to_owned()), reason];
            self.finished.get_or_create_owned(&labels)
        });
        RequestMetrics {
            running: self.running.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            queue_time: self.queue_time.get_or_create_owned(&labels),
            latency: self.latency.get_or_create_owned(&labels),
            finished,
            cancelled: self.cancelled.get_or_create_owned(&labels),
        }
    }
}
