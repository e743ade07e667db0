//! The settings of the server and the TOML file that holds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::router::config::{RouteConfig, RouterConfig};
use crate::router::tls::ServerTlsFiles;

use super::{
    BertModelConfig, ConfigError, CpuList, DeviceConfig, KvCacheDtype, LanguageModelConfig,
    MetricsAddress, bounds::within,
};

/// The commented file that explains every option and holds every default; `--print-config` shows it.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// What the server runs with. The file's keys have the names of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Unix socket that the database talks to.
    pub socket: PathBuf,
    /// Log filter in the syntax of tracing.
    pub log: String,
    /// Compute threads; 0: one per core.
    #[serde(deserialize_with = "within::<_, 0, 1024, _>")]
    pub threads: u32,
    /// The processors that all threads run on; None: all there are.
    pub cpus: Option<CpuList>,
    /// Models for Embed, default first.
    #[serde(rename = "embedding_model")]
    pub embedding_models: Vec<BertModelConfig>,
    /// Models for Rerank, default first.
    #[serde(rename = "reranking_model")]
    pub reranking_models: Vec<BertModelConfig>,
    /// Models for Generate, default first.
    #[serde(rename = "language_model")]
    pub language_models: Vec<LanguageModelConfig>,

    /// Requests that may wait before new ones are refused.
    #[serde(deserialize_with = "within::<_, 1, 65_536, _>")]
    pub queue_size: u32,
    /// Most tokens of a prompt and its answer together.
    #[serde(deserialize_with = "within::<_, 64, 1_048_576, _>")]
    pub context_tokens: u32,
    /// Memory for keys and values of one language model, in MiB.
    #[serde(deserialize_with = "within::<_, 1, 4_194_304, _>")]
    pub kv_mib: u64,
    /// How they are kept.
    pub kv_cache_dtype: KvCacheDtype,
    /// Most tokens of one step of the engine.
    #[serde(deserialize_with = "within::<_, 1, 65_536, _>")]
    pub batch_tokens_max: u32,
    /// Most prompt tokens of one sequence in one step.
    #[serde(deserialize_with = "within::<_, 1, 65_536, _>")]
    pub prompt_chunk_tokens: u32,
    /// Most tokens of one text that a step reads ahead.
    #[serde(deserialize_with = "within::<_, 0, 7, _>")]
    pub draft_tokens_max: u32,
    /// Most sequences of one language model that run together.
    #[serde(deserialize_with = "within::<_, 1, 1024, _>")]
    pub sequences_max: u32,

    /// Most adapters in memory.
    #[serde(deserialize_with = "within::<_, 0, 1024, _>")]
    pub adapters_max: u32,
    /// Highest rank of an adapter's modules.
    #[serde(deserialize_with = "within::<_, 1, 1024, _>")]
    pub adapter_rank_max: u32,
    /// Memory of all adapters together, in MiB.
    #[serde(deserialize_with = "within::<_, 1, 1_048_576, _>")]
    pub adapter_mib: u64,

    /// Where `/metrics`, `/health` and `/ready` are; None: nowhere.
    pub metrics_listen: Option<MetricsAddress>,
    /// Lets `metrics_listen` be an address that other machines reach.
    pub metrics_allow_remote: bool,

    /// TCP address for clients on other machines, by mutual TLS only; None: the Unix socket alone.
    pub listen: Option<SocketAddr>,
    /// PEM file of the server's certificate chain.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file of the server's private key.
    pub tls_key_file: Option<PathBuf>,
    /// PEM file of the authority that signs the certificates of clients.
    pub tls_client_ca_file: Option<PathBuf>,
    /// Hosts that routes may lead to; empty: none.
    pub allowed_hosts: Vec<String>,
    /// Models that other servers run.
    #[serde(rename = "route")]
    pub routes: Vec<RouteConfig>,
}

impl Config {
    /// Reads and parses the file at `path`. What its values say together is left to [`Self::check`],
    /// since flags may still change them.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Parses the text of a file; the error names line and key.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Refuses values that do not go together.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_names()?;
        self.check_devices()?;
        self.check_addresses()?;
        self.check_steps()
    }

    /// Most tokens of a prompt and its answer together for `model`.
    pub fn context_tokens_of(&self, model: &LanguageModelConfig) -> u32 {
        model.context_tokens.unwrap_or(self.context_tokens)
    }

    /// The names of all models, embedding models first.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        let bert = self.embedding_models.iter().chain(&self.reranking_models);
        let bert = bert.map(|model| &model.name);
        let language = self.language_models.iter().map(|model| &model.name);
        let routed = self.routes.iter().map(|route| &route.model);
        bert.chain(language).chain(routed).map(String::as_str)
    }

    /// What concerns other servers.
    pub fn router(&self) -> RouterConfig {
        RouterConfig {
            allowed_hosts: self.allowed_hosts.clone(),
            routes: self.routes.clone(),
        }
    }

    /// The files behind `listen`; None without it.
    pub fn server_tls(&self) -> Option<ServerTlsFiles> {
        Some(ServerTlsFiles {
            cert_file: self.tls_cert_file.clone()?,
            key_file: self.tls_key_file.clone()?,
            client_ca_file: self.tls_client_ca_file.clone()?,
        })
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let mut names: Vec<&str> = self.model_names().collect();
        if names.is_empty() {
            return Err(ConfigError::NoModel);
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ConfigError::DuplicateName {
                name: pair[0].to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn check_devices(&self) -> Result<(), ConfigError> {
        let is_built_in = |model: &LanguageModelConfig| model.device.is_built_in();
        if !self.language_models.iter().all(is_built_in) {
            return Err(ConfigError::Value {
                key: "device",
                expected: "\"cpu\": this server was built without its cargo feature \"cuda\""
                    .into(),
            });
        }
        let on_gpu = |model: &LanguageModelConfig| model.device != DeviceConfig::Cpu;
        if self.kv_cache_dtype == KvCacheDtype::Int8 && self.language_models.iter().any(on_gpu) {
            return Err(ConfigError::Value {
                key: "kv_cache_dtype",
                expected: "\"float16\" where a language model computes on a GPU".into(),
            });
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let refuse = |key, expected: &str| {
            let expected = expected.to_owned();
            Err(ConfigError::Value { key, expected })
        };
        let is_remote = |address: &MetricsAddress| !address.is_local();
        if self.metrics_listen.as_ref().is_some_and(is_remote) && !self.metrics_allow_remote {
            return refuse(
                "metrics_listen",
                "a loopback address or a Unix socket unless metrics_allow_remote = true",
            );
        }
        let tls_files = [
            &self.tls_cert_file,
            &self.tls_key_file,
            &self.tls_client_ca_file,
        ];
        let given = tls_files.iter().filter(|file| file.is_some()).count();
        let wanted = if self.listen.is_some() { 3 } else { 0 };
        if given != wanted {
            return refuse(
                "listen",
                "given together with tls_cert_file, tls_key_file and tls_client_ca_file",
            );
        }
        Ok(())
    }

    fn check_steps(&self) -> Result<(), ConfigError> {
        let at_most = |key, value: u32, limit: &str, limit_value: u32| {
            if value <= limit_value {
                return Ok(());
            }
            let expected = format!("at most {limit}, which is {limit_value}");
            Err(ConfigError::Value { key, expected })
        };
        let budget = self.batch_tokens_max;
        at_most(
            "prompt_chunk_tokens",
            self.prompt_chunk_tokens,
            "batch_tokens_max",
            budget,
        )?;
        // Each running sequence takes one token of each step.
        at_most(
            "sequences_max",
            self.sequences_max,
            "batch_tokens_max",
            budget,
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: "/run/salesai/sidecar.sock".into(),
            log: "info".into(),
            threads: 0,
            cpus: None,
            embedding_models: Vec::new(),
            reranking_models: Vec::new(),
            language_models: Vec::new(),
            queue_size: 256,
            context_tokens: 8192,
            kv_mib: 512,
            kv_cache_dtype: KvCacheDtype::Float16,
            batch_tokens_max: 256,
            prompt_chunk_tokens: 128,
            draft_tokens_max: 7,
            sequences_max: 64,
            adapters_max: 16,
            adapter_rank_max: 256,
            adapter_mib: 1024,
            metrics_listen: None,
            metrics_allow_remote: false,
            listen: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
            allowed_hosts: Vec::new(),
            routes: Vec::new(),
        }
    }
}
