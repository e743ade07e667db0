//! The one set of metrics of the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::adapters::AdapterMetrics;
use super::embedding::{EmbeddingFamilies, EmbeddingMetrics};
use super::families::{self, number};
use super::labels::Rejection;
use super::language::{LanguageFamilies, LanguageMetrics};
use super::process::resident_bytes;
use super::requests::RequestFamilies;
use super::upstreams::{UpstreamFamilies, UpstreamMetrics};

/// Names that one kind of label may take; the rest share "other".
pub const NAMES_MAX: usize = 256;

/// All metrics. Clones record into the same numbers.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    resident_bytes: Gauge,
    /// In the order of [`Rejection::ALL`].
    rejected: [Counter; Rejection::ALL.len()],
    adapters: AdapterMetrics,
    requests: RequestFamilies,
    language: LanguageFamilies,
    embedding: EmbeddingFamilies,
    upstream: UpstreamFamilies,
    language_handles: Handles<LanguageMetrics>,
    embedding_handles: Handles<EmbeddingMetrics>,
    upstream_handles: Handles<UpstreamMetrics>,
}

/// Handles by name, made at the first use of a name.
struct Handles<H> {
    by_name: Mutex<BTreeMap<String, H>>,
}

impl Metrics {
    /// All metrics at zero; done once per process.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let resident_bytes = families::gauge(
            &mut registry,
            "process_resident_memory_bytes",
            "Resident memory of the process",
        );
        let own = registry.sub_registry_with_prefix("salesai");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        own.register("build", "Version of the sidecar", Info::new(version));
        let shared = Shared {
            resident_bytes,
            rejected: rejections(own),
            adapters: AdapterMetrics::register(own),
            requests: RequestFamilies::register(own),
            language: LanguageFamilies::register(own),
            embedding: EmbeddingFamilies::register(own),
            upstream: UpstreamFamilies::register(own),
            language_handles: Handles::new(),
            embedding_handles: Handles::new(),
            upstream_handles: Handles::new(),
            registry,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The numbers of language model `name`. Takes a lock: keep the handle.
    pub fn language(&self, name: &str) -> LanguageMetrics {
        let shared = &self.shared;
        shared
            .language_handles
            .get(name, |name| shared.language.handles(&shared.requests, name))
    }

    /// The numbers of embedding model `name`. Takes a lock: keep the handle.
    pub fn embedding(&self, name: &str) -> EmbeddingMetrics {
        let shared = &self.shared;
        shared.embedding_handles.get(name, |name| {
            shared.embedding.handles(&shared.requests, name)
        })
    }

    /// The numbers of upstream `name`. Takes a lock: keep the handle.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let shared = &self.shared;
        shared
            .upstream_handles
            .get(name, |name| shared.upstream.handles(name))
    }

    /// The numbers of all adapters together.
    pub fn adapters(&self) -> &AdapterMetrics {
        &self.shared.adapters
    }

    /// A request was turned away before it ran.
    pub fn rejected(&self, rejection: Rejection) {
        self.shared.rejected[rejection as usize].inc();
    }

    /// All numbers as OpenMetrics text, which Prometheus reads.
    pub fn render(&self) -> String {
        let resident_bytes = resident_bytes().unwrap_or(0);
        self.shared.resident_bytes.set(number(resident_bytes));
        let mut text = String::new();
        // Writing to a string fails only for a number that has no text form; none is recorded.
        if encode(&mut text, &self.shared.registry).is_err() {
            tracing::error!("could not render the metrics");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn rejections(registry: &mut Registry) -> [Counter; Rejection::ALL.len()] {
    let family = families::counters(
        registry,
        "requests_rejected",
        "Requests turned away before they ran, by reason",
    );
    Rejection::ALL.map(|rejection| {
        let labels = vec![("reason", rejection.name().to_owned())];
        family.get_or_create_owned(&labels)
    })
}

impl<H: Clone> Handles<H> {
    fn new() -> Self {
        Self {
            by_name: Mutex::new(BTreeMap::new()),
        }
    }

    fn get(&self, name: &str, make: impl FnOnce(&str) -> H) -> H {
        let mut by_name = self.lock();
        let name = match by_name.len() < NAMES_MAX || by_name.contains_key(name) {
            true => name,
            false => "other",
        };
        if let Some(handle) = by_name.get(name) {
            return handle.clone();
        }
        let handle = make(name);
        by_name.insert(name.to_owned(), handle.clone());
        handle
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, H>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
