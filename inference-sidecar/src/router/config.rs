//! The part of the configuration file that names other servers. Secrets are files, never values.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Which models are served elsewhere, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterConfig {
    /// The only endpoints that routes may name: `host`, `host:port` or `unix:/path`, compared as
    /// written; no wildcards. Empty: no route is possible.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// The models served elsewhere.
    #[serde(default, rename = "route")]
    pub routes: Vec<RouteConfig>,
}

/// A model served elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The name that requests use.
    pub model: String,
    /// Tokens that prompt and answer may have together; told to clients, enforced by the upstream.
    #[serde(default = "default_tokens_max")]
    pub tokens_max: u32,
    /// The servers that share the work; at least one.
    #[serde(rename = "upstream")]
    pub upstreams: Vec<UpstreamConfig>,
}

/// One server that runs the model of a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// What it speaks.
    pub kind: UpstreamKind,
    /// `http://host:port`, `https://host:port`, each with an optional path before `/v1`;
    /// a sidecar: `https://host:port` or `unix:/path`.
    pub url: String,
    /// The name of the model there.
    pub model: String,
    /// A file with the key that goes into the `authorization` header.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// The certificates that may have signed the server's; needed for https.
    #[serde(default)]
    pub tls_ca_file: Option<PathBuf>,
    /// The certificate that shows who we are; a sidecar demands one.
    #[serde(default)]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate.
    #[serde(default)]
    pub tls_key_file: Option<PathBuf>,
    /// Requests that may run there at once.
    #[serde(default = "default_requests_max")]
    pub requests_max: u32,
    /// Longest time to connect, TLS included.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Longest time from the request to the first token.
    #[serde(default = "default_first_token_timeout_ms")]
    pub first_token_timeout_ms: u64,
    /// Longest time between two tokens.
    #[serde(default = "default_idle_timeout_ms")]
    pub idle_timeout_ms: u64,
    /// Time between two health checks; each is up to a fifth earlier or later.
    #[serde(default = "default_health_interval_ms")]
    pub health_interval_ms: u64,
    /// Consecutive failures after which it gets no more requests for a while.
    #[serde(default = "default_failures_max")]
    pub failures_max: u32,
    /// That while; doubled each time it fails again.
    #[serde(default = "default_backoff_ms")]
    pub backoff_ms: u64,
    /// Where the doubling ends.
    #[serde(default = "default_backoff_max_ms")]
    pub backoff_max_ms: u64,
    /// vLLM before 0.11: its fields are `guided_regex` and `guided_choice`, not `structured_outputs`.
    #[serde(default)]
    pub guided_fields: bool,
    /// vLLM and TensorRT-LLM with priority scheduling switched on there: they refuse or ignore the
    /// field otherwise, so it is not sent.
    #[serde(default)]
    pub priority_scheduling: bool,
    /// TensorRT-LLM that knows no `cache_salt`: set this to false and switch its block reuse off.
    #[serde(default = "default_true")]
    pub cache_salt: bool,
    /// What this server calls our adapters. vLLM and sidecars know others by the same name.
    #[serde(default, rename = "adapter")]
    pub adapters: Vec<RoutedAdapterConfig>,
}

/// What another server calls one of our adapters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutedAdapterConfig {
    /// Our name.
    pub name: String,
    /// The generation that is loaded there; requests that insist on another one are refused.
    #[serde(default)]
    pub generation: Option<u64>,
    /// vLLM, TensorRT-LLM: the name there; ours by default.
    #[serde(default)]
    pub served_as: Option<String>,
    /// llama.cpp: its position in GET /lora-adapters. TensorRT-LLM: `lora_int_id`.
    #[serde(default)]
    pub id: Option<u32>,
    /// TensorRT-LLM: `lora_path`, a path on that machine.
    #[serde(default)]
    pub path: Option<String>,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum UpstreamKind {
    #[serde(rename = "vllm")]
    Vllm,
    #[serde(rename = "tensorrt-llm")]
    TensorRtLlm,
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    #[serde(rename = "sidecar")]
    Sidecar,
}

/// How long the router waits for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    pub connect: Duration,
    pub first_token: Duration,
    pub idle: Duration,
    pub health_interval: Duration,
}

impl UpstreamKind {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            UpstreamKind::Vllm => "vllm",
            UpstreamKind::TensorRtLlm => "tensorrt-llm",
            UpstreamKind::LlamaCpp => "llama.cpp",
            UpstreamKind::Sidecar => "sidecar",
        }
    }
}

impl UpstreamConfig {
    /// Names the setting that makes no sense, if any.
    pub(super) fn check(&self) -> Result<(), String> {
        let positive = [
            ("requests_max", u64::from(self.requests_max)),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("first_token_timeout_ms", self.first_token_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("health_interval_ms", self.health_interval_ms),
            ("failures_max", u64::from(self.failures_max)),
            ("backoff_ms", self.backoff_ms),
        ];
        const DAY_MS: u64 = 24 * 3600 * 1000;
        if let Some((name, _)) = positive
            .iter()
            .find(|(_, value)| !(1..=DAY_MS).contains(value))
        {
            return Err(format!("\"{name}\" must be at least 1 and at most a day"));
        }
        if !(self.backoff_ms..=DAY_MS).contains(&self.backoff_max_ms) {
            return Err("\"backoff_max_ms\" must be at least \"backoff_ms\", at most a day".into());
        }
        if self.model.is_empty() {
            return Err("\"model\" must not be empty".into());
        }
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            return Err("\"tls_cert_file\" and \"tls_key_file\" come together".into());
        }
        if self.kind == UpstreamKind::Sidecar && self.api_key_file.is_some() {
            return Err("\"api_key_file\" is not for sidecars; they check certificates".into());
        }
        let incomplete = self
            .adapters
            .iter()
            .find(|adapter| !adapter.is_complete(self.kind));
        match incomplete {
            Some(adapter) => Err(format!(
                "adapter \"{}\" lacks what {} needs (\"id\", and for tensorrt-llm \"path\")",
                adapter.name,
                self.kind.name()
            )),
            None => Ok(()),
        }
    }

    pub(super) fn patience(&self) -> Patience {
        Patience {
            connect: Duration::from_millis(self.connect_timeout_ms),
            first_token: Duration::from_millis(self.first_token_timeout_ms),
            idle: Duration::from_millis(self.idle_timeout_ms),
            health_interval: Duration::from_millis(self.health_interval_ms),
        }
    }
}

impl RoutedAdapterConfig {
    fn is_complete(&self, kind: UpstreamKind) -> bool {
        match kind {
            UpstreamKind::Vllm | UpstreamKind::Sidecar => true,
            UpstreamKind::LlamaCpp => self.id.is_some(),
            UpstreamKind::TensorRtLlm => self.id.is_some() && self.path.is_some(),
        }
    }
}

fn default_tokens_max() -> u32 {
    8192
}

fn default_requests_max() -> u32 {
    32
}

fn default_connect_timeout_ms() -> u64 {
    2_000
}

fn default_first_token_timeout_ms() -> u64 {
    60_000
}

fn default_idle_timeout_ms() -> u64 {
    30_000
}

fn default_health_interval_ms() -> u64 {
    5_000
}

fn default_failures_max() -> u32 {
    3
}

fn default_backoff_ms() -> u64 {
    1_000
}

fn default_backoff_max_ms() -> u64 {
    60_000
}

fn default_true() -> bool {
    true
}
