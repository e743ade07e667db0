//! Models that other servers run: vLLM, TensorRT-LLM, llama.cpp and other sidecars.
//!
//! - [`config`]: what the configuration file says of routes; `address`: URLs and the allow-list
//! - `generation`: attempts until the first token, then the stream; `failure`: what an attempt teaches
//! - `route`: the upstreams of a model and the choice among them; [`breaker`], `health`: who is fit
//! - `upstream`: one server; `dialect`, `http`, `sse`, `chat_stream`, `chat_answer`: OpenAI-compatible
//!   ones; [`sidecar`]: gRPC ones; [`tls`]: certificates
//! - [`counters`]: what is counted
//!
//! Invariants: nothing is sent to an address that `allowed_hosts` does not name; redirects are not
//! followed and proxies of the environment are not used. An answer that has begun is never begun again
//! elsewhere. Neither texts of requests nor keys reach the log or an error.

mod address;
mod breaker;
mod chat_answer;
mod chat_stream;
pub mod config;
mod counters;
mod dialect;
mod failure;
mod generation;
mod health;
mod http;
mod route;
mod sidecar;
mod sse;
pub mod tls;
mod upstream;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use proto::model::GenerationRequest;

use crate::error::Error;
pub use breaker::BreakerState;
use config::RouterConfig;
pub use counters::UpstreamCounters;
pub use generation::Generation;
pub use health::HealthChecks;
use route::Route;
pub use sidecar::ROUTED;

/// Sends generations to the servers that run their models.
pub struct Router {
    routes: Vec<Arc<Route>>,
}

/// What clients may know of a model that is served elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedModel {
    pub name: String,
    /// Tokens that prompt and answer may have together, as the configuration says.
    pub tokens_max: u32,
}

/// The state of one upstream at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    pub model: String,
    /// Its address.
    pub upstream: String,
    pub breaker: BreakerState,
    /// Requests that run there now.
    pub running: u32,
    /// Tokens that these may cost: their prompts, estimated, and what they may make.
    pub outstanding_tokens: u64,
    /// As in [`UpstreamCounters`].
    pub requests: u64,
    pub failed_requests: u64,
    pub overloaded: u64,
    pub broken_answers: u64,
    pub cancelled: u64,
    pub completion_tokens: u64,
    pub breaker_openings: u64,
}

impl Router {
    /// Checks the configuration against the allow-list and reads the files it names. Connects to nothing.
    pub fn new(config: &RouterConfig) -> Result<Self, Error> {
        if config.allowed_hosts.iter().any(|host| host.contains('*')) {
            return Err(Error::route("\"allowed_hosts\" has no wildcards"));
        }
        let mut names = HashSet::new();
        for route in &config.routes {
            if !names.insert(&route.model) {
                return Err(Error::DuplicateName {
                    name: route.model.clone(),
                });
            }
        }
        let routes = config.routes.iter();
        let routes = routes.map(|route| Route::new(route, &config.allowed_hosts).map(Arc::new));
        Ok(Self {
            routes: routes.collect::<Result<_, _>>()?,
        })
    }

    /// The models that are served elsewhere, in the order of the configuration.
    pub fn models(&self) -> impl Iterator<Item = RoutedModel> + '_ {
        self.routes.iter().map(|route| RoutedModel {
            name: route.model.clone(),
            tokens_max: route.tokens_max,
        })
    }

    /// True when `model` is served elsewhere.
    pub fn serves(&self, model: &str) -> bool {
        self.routes.iter().any(|route| route.model == model)
    }

    /// Starts health checks on the current runtime; without them a breaker that has opened stays open.
    pub fn start_health_checks(&self) -> HealthChecks {
        HealthChecks::start(&self.routes)
    }

    /// Runs `request` elsewhere; its own choice of a model is not looked at. Returns when the first token
    /// has come, so that an upstream which fails before is replaced by another one.
    pub async fn generate(
        &self,
        model: &str,
        request: GenerationRequest,
        deadline: Option<Instant>,
    ) -> Result<Generation, Error> {
        let route = self.routes.iter().find(|route| route.model == model);
        let route = route.ok_or_else(|| Error::ModelNotFound {
            kind: "language",
            name: model.to_owned(),
        })?;
        generation::start(route, &request, deadline).await
    }

    /// The state of every upstream, for the metrics.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        let of_route = |route: &Arc<Route>| {
            let upstreams = route.upstreams.iter().enumerate();
            upstreams
                .map(|(index, upstream)| {
                    let (load, counters) = (route.load(index), &upstream.counters);
                    UpstreamStatus {
                        model: route.model.clone(),
                        upstream: upstream.name.clone(),
                        breaker: load.breaker,
                        running: load.running,
                        outstanding_tokens: load.outstanding_tokens,
                        requests: counters.requests.load(Relaxed),
                        failed_requests: counters.failed_requests.load(Relaxed),
                        overloaded: counters.overloaded.load(Relaxed),
                        broken_answers: counters.broken_answers.load(Relaxed),
                        cancelled: counters.cancelled.load(Relaxed),
                        completion_tokens: counters.completion_tokens.load(Relaxed),
                        breaker_openings: counters.breaker_openings.load(Relaxed),
                    }
                })
                .collect::<Vec<_>>()
        };
        self.routes.iter().flat_map(of_route).collect()
    }
}
