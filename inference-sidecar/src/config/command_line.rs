//! The command line: flags over the file, and what the process is to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use super::{
    BertModelConfig, Config, ConfigError, DeviceConfig, KvCacheDtype, LanguageModelConfig,
    Quantization, bounds,
};
use crate::bench::BenchArguments;
use crate::documents::ReadDocumentArguments;

/// Model server of salesai: embeddings and generation over gRPC on a Unix socket.
///
/// Every option is explained in the configuration file that --print-config shows.
/// Without a subcommand it serves.
#[derive(Debug, Clone, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

/// What the process is to do, with settings that were checked.
#[derive(Debug)]
pub enum Action {
    /// Serve until a signal.
    Serve(Box<Config>),
    /// Ask the server on this socket whether it is ready.
    CheckReady(PathBuf),
    /// Review this configuration and start nothing.
    CheckConfig(Box<Config>),
    /// Print the commented default file.
    PrintConfig,
    /// Measure a running server.
    Bench(BenchArguments),
    /// Read the document on standard input.
    ReadDocument(ReadDocumentArguments),
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Load the models and serve until SIGTERM or SIGINT.
    Serve(Box<ServeArguments>),
    /// Drive a running server and print its latency and throughput.
    Bench(BenchArguments),
    /// Read the document on standard input and write its text as JSON: what the server starts for each document.
    #[command(hide = true)]
    ReadDocument(ReadDocumentArguments),
}

#[derive(Debug, Clone, Args)]
struct ServeArguments {
    /// Configuration file; the flags below override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Unix socket to serve on; created with mode 0600 in a directory that only this user may enter.
    #[arg(long, env = "SALESAI_SIDECAR_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Embedding model as NAME=DIR, a sentence-transformers directory with safetensors weights.
    /// May be repeated; the first one is the default.
    #[arg(long = "embedding-model", value_name = "NAME=DIR")]
    embedding_models: Vec<Named<PathBuf>>,

    /// Cross-encoder as NAME=DIR, a directory of the BERT family with safetensors weights and a head of one label.
    /// May be repeated; the first one is the default.
    #[arg(long = "reranking-model", value_name = "NAME=DIR")]
    reranking_models: Vec<Named<PathBuf>>,

    /// Language model as NAME=PATH, a GGUF file or a safetensors directory of the Llama family.
    /// May be repeated; the first one is the default.
    #[arg(long = "language-model", value_name = "NAME=PATH")]
    language_models: Vec<Named<PathBuf>>,

    /// Refuse to start unless the weight file of model NAME has this SHA-256. May be repeated.
    #[arg(long = "expect-sha256", value_name = "NAME=HEX")]
    expected_sha256: Vec<Named<Sha256>>,

    /// Requests that may wait; further ones are refused until the queue is shorter.
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    queue_size: Option<u32>,

    /// Most tokens of a prompt and its answer together; a model's own limit holds when it is lower.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    context_tokens: Option<u32>,

    /// TCP address for other machines; they show a certificate.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Certificate chain of this server, as PEM.
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,

    /// Key of that certificate, as PEM.
    #[arg(long, value_name = "FILE")]
    tls_key_file: Option<PathBuf>,

    /// Certificates that must have signed those of the clients, as PEM.
    #[arg(long, value_name = "FILE")]
    tls_client_ca_file: Option<PathBuf>,

    /// Memory for keys and values of one language model, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4_194_304))]
    kv_mib: Option<u64>,

    /// How keys and values are kept.
    #[arg(long, value_name = "DTYPE")]
    kv_cache_dtype: Option<KvCacheDtype>,

    /// Most sequences of one language model that run together.
    #[arg(long, value_name = "SEQUENCES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    sequences_max: Option<u32>,

    /// Most tokens of one step of the engine.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_tokens_max: Option<u32>,

    /// Most prompt tokens of one sequence in one step.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    prompt_chunk_tokens: Option<u32>,

    /// Most tokens of one text that a step reads ahead; 0 reads none.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(0..=7))]
    draft_tokens_max: Option<u32>,

    /// Log filter in the syntax of tracing, for example "info,inference_sidecar=debug".
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,

    /// Start nothing: exit with 0 when the server on the socket is ready, else with 1.
    #[arg(long)]
    check: bool,

    /// Start nothing: exit with 0 when the configuration is usable, else with 1; say what would run.
    #[arg(long, conflicts_with = "check")]
    check_config: bool,

    /// Print the configuration file with every option explained.
    #[arg(long)]
    print_config: bool,
}

/// A value with the name that requests use for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named<T> {
    name: String,
    value: T,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sha256(String);

impl CommandLine {
    /// Reads the configuration file, if one is named, and decides what to do.
    pub fn action(self) -> Result<Action, ConfigError> {
        match self.command {
            Some(Command::Bench(bench)) => Ok(Action::Bench(bench)),
            Some(Command::ReadDocument(document)) => Ok(Action::ReadDocument(document)),
            Some(Command::Serve(serve)) => serve.action(),
            None => self.serve.action(),
        }
    }
}

impl ServeArguments {
    fn action(self) -> Result<Action, ConfigError> {
        if self.print_config {
            return Ok(Action::PrintConfig);
        }
        let (check, check_config) = (self.check, self.check_config);
        let config = self.merge()?;
        if check {
            return Ok(Action::CheckReady(config.socket));
        }
        config.check()?;
        if check_config {
            return Ok(Action::CheckConfig(Box::new(config)));
        }
        Ok(Action::Serve(Box::new(config)))
    }

    /// The file's settings, or the defaults, with the flags applied.
    fn merge(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(Config::read).transpose()?;
        let mut config = file.unwrap_or_default();
        replace(&mut config.socket, self.socket);
        replace(&mut config.queue_size, self.queue_size);
        replace(&mut config.context_tokens, self.context_tokens);
        config.listen = self.listen.or(config.listen);
        for (setting, flag) in [
            (&mut config.tls_cert_file, self.tls_cert_file),
            (&mut config.tls_key_file, self.tls_key_file),
            (&mut config.tls_client_ca_file, self.tls_client_ca_file),
        ] {
            *setting = flag.or(setting.take());
        }
        replace(&mut config.kv_mib, self.kv_mib);
        replace(&mut config.kv_cache_dtype, self.kv_cache_dtype);
        replace(&mut config.sequences_max, self.sequences_max);
        replace(&mut config.batch_tokens_max, self.batch_tokens_max);
        replace(&mut config.prompt_chunk_tokens, self.prompt_chunk_tokens);
        replace(&mut config.draft_tokens_max, self.draft_tokens_max);
        replace(&mut config.log, self.log);
        config
            .embedding_models
            .extend(self.embedding_models.into_iter().map(Into::into));
        config
            .reranking_models
            .extend(self.reranking_models.into_iter().map(Into::into));
        config
            .language_models
            .extend(self.language_models.into_iter().map(Into::into));
        for expected in self.expected_sha256 {
            expect_sha256(&mut config, expected)?;
        }
        Ok(config)
    }
}

fn replace<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

fn expect_sha256(config: &mut Config, expected: Named<Sha256>) -> Result<(), ConfigError> {
    let name = expected.name;
    let bert = config.embedding_models.iter_mut();
    let bert = bert
        .chain(&mut config.reranking_models)
        .map(|model| (&model.name, &mut model.sha256));
    let language = config
        .language_models
        .iter_mut()
        .map(|model| (&model.name, &mut model.sha256));
    match bert.chain(language).find(|(found, _)| **found == name) {
        Some((_, sha256)) => *sha256 = Some(expected.value.0),
        None => return Err(ConfigError::UnknownModel { name }),
    }
    Ok(())
}

impl From<Named<PathBuf>> for BertModelConfig {
    fn from(model: Named<PathBuf>) -> Self {
        Self {
            name: model.name,
            path: model.value,
            sha256: None,
            quantization: Quantization::default(),
        }
    }
}

impl From<Named<PathBuf>> for LanguageModelConfig {
    fn from(model: Named<PathBuf>) -> Self {
        Self {
            name: model.name,
            path: model.value,
            sha256: None,
            context_tokens: None,
            device: DeviceConfig::default(),
        }
    }
}

impl<T: FromStr> FromStr for Named<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        if !bounds::is_name(name) || value.is_empty() {
            return Err("NAME must be 1 to 128 letters, digits, \".\", \"_\" or \"-\"".into());
        }
        let value = value
            .parse()
            .map_err(|_| "the value after \"=\" is not valid")?;
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }
}

impl FromStr for Sha256 {
    type Err = ();

    fn from_str(digits: &str) -> Result<Self, ()> {
        bounds::is_sha256(digits)
            .then(|| Self(digits.to_ascii_lowercase()))
            .ok_or(())
    }
}
