//! Metrics of one name and many labels, and the buckets of the histograms.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds: a wait of a person, from a warm cache to a long prompt on few cores.
pub(super) const FIRST_TOKEN_SECONDS: Buckets = Buckets(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
]);
/// Upper bounds in seconds: the stutter of an answer.
pub(super) const INTER_TOKEN_SECONDS: Buckets = Buckets(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
]);
/// Upper bounds in seconds: a whole request or a stage of it.
pub(super) const REQUEST_SECONDS: Buckets = Buckets(&[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
]);
/// Upper bounds in tokens of one step.
pub(super) const STEP_TOKENS: Buckets = Buckets(&[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
]);

/// Names and values of labels; the order is fixed by the code that makes them.
pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Family<Labels, Counter>;
pub(super) type Gauges = Family<Labels, Gauge>;
pub(super) type Histograms = Family<Labels, Histogram, Buckets>;

/// Upper bounds of a histogram, ascending; one without bound is added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

pub(super) fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

pub(super) fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

pub(super) fn histograms(
    registry: &mut Registry,
    name: &str,
    help: &str,
    buckets: Buckets,
) -> Histograms {
    let family = Histograms::new_with_constructor(buckets);
    registry.register(name, help, family.clone());
    family
}

pub(super) fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

pub(super) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// A count as Prometheus holds it; what does not fit is the highest number.
pub(super) fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
