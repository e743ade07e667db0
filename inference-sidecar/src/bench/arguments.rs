//! What a measurement does.

use std::path::PathBuf;

use clap::Args;
use proto::model::{Caller, ChatMessage, GenerationRequest, Priority, Role, Sampling};

use super::prompts::Prompt;
use crate::config::{Config, ConfigError};

/// One measurement. Every number has a bound, so that no typing error becomes an attack.
#[derive(Debug, Clone, Args)]
pub struct BenchArguments {
    /// Unix socket of the server.
    #[arg(long, env = "SALESAI_SIDECAR_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Configuration file of the server, to take the socket from.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Language model; the default one when left out.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// Requests that are open together.
    #[arg(long, default_value_t = 8, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: u32,

    /// Requests in all.
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub requests: u32,

    /// Words of each prompt, about as many tokens; the true count is in the result.
    #[arg(long, default_value_t = 128, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub prompt_tokens: u32,

    /// Most tokens of each answer; the model may end earlier.
    #[arg(long, default_value_t = 64, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub output_tokens: u32,

    /// Percent of each prompt that all prompts begin with.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub shared_prefix: u32,

    /// Seed of the prompts and of the sampling.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,

    /// Seconds that one request may take.
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: u32,

    /// Print the result as JSON instead of a table.
    #[arg(long)]
    pub json: bool,

    /// Print the prompts as a JSON list and ask no server: to ask another one the same.
    #[arg(long)]
    pub print_prompts: bool,
}

impl BenchArguments {
    /// The socket of the server: the flag, else that of the configuration file.
    pub(super) fn socket(&self) -> Result<PathBuf, ConfigError> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(file)) => Config::read(file).map(|config| config.socket),
            (None, None) => Ok(Config::default().socket),
        }
    }

    /// The prompt of request `index`.
    pub(super) fn prompt(&self, index: u32) -> String {
        let prompt = Prompt {
            words: self.prompt_tokens,
            shared_percent: self.shared_prefix,
            seed: self.seed,
            index,
        };
        prompt.text()
    }

    /// The conversation of request `index`, answered by chance as the seed says.
    pub(super) fn request(&self, index: u32) -> GenerationRequest {
        GenerationRequest {
            model: self.model.clone().unwrap_or_default().into(),
            adapter: None,
            messages: vec![ChatMessage {
                role: Role::User,
                content: self.prompt(index),
            }],
            tokens_max: self.output_tokens,
            sampling: Sampling::nucleus(1.0, 1.0, self.seed.wrapping_add(u64::from(index))),
            stop: Vec::new(),
            constraint: None,
            top_logprobs: 0,
            priority: Priority::Interactive,
            caller: Caller {
                name: "bench".to_owned(),
                // Equal salts, so that the prefix cache may work.
                cache_salt: b"bench".to_vec(),
            },
        }
    }
}
