//! What the store of adapters records: of all together, since their names come and go.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{self, number};

/// The numbers of all adapters together.
#[derive(Debug, Clone)]
pub struct AdapterMetrics {
    loaded: Gauge,
    bytes: Gauge,
    loads: Counter,
    evictions: Counter,
}

impl AdapterMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            loaded: families::gauge(registry, "adapters_loaded", "Adapters in memory"),
            bytes: families::gauge(registry, "adapter_bytes", "Memory of all adapters"),
            loads: families::counter(registry, "adapter_loads", "Adapters taken into memory"),
            evictions: families::counter(
                registry,
                "adapter_evictions",
                "Adapters dropped to make room for others",
            ),
        }
    }

    /// What is in memory now.
    pub fn set(&self, adapters: usize, bytes: u64) {
        self.loaded.set(number(adapters));
        self.bytes.set(number(bytes));
    }

    /// An adapter or a new generation of one was taken into memory.
    pub fn loaded(&self) {
        self.loads.inc();
    }

    /// An adapter was dropped to make room; not when it is unloaded or replaced.
    pub fn evicted(&self) {
        self.evictions.inc();
    }
}
