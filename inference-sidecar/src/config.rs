//! The command line: every setting of the process, read and checked once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

/// Model server of salesai: embeddings and generation over gRPC on a Unix socket.
///
/// The number of compute threads is candle's own setting: the environment variable
/// RAYON_NUM_THREADS (all cores when unset).
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Config {
    /// Unix socket to serve on; created with mode 0600 in a directory that only this user may enter.
    #[arg(long, env = "SALESAI_SIDECAR_SOCKET", value_name = "PATH")]
    pub socket: PathBuf,

    /// TCP address for other sidecars, by mutual TLS only; the three files must be given too.
    #[arg(long, value_name = "ADDRESS:PORT", requires_all = ["tls_cert_file", "tls_key_file", "tls_client_ca_file"])]
    pub listen: Option<SocketAddr>,

    /// Certificate chain of this server, as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,

    /// Key of that certificate, as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,

    /// Certificates that must have signed those of the clients, as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,

    /// Embedding model as NAME=DIR, a sentence-transformers directory with safetensors weights.
    /// May be repeated; the first one is the default.
    #[arg(long = "embedding-model", value_name = "NAME=DIR", required_unless_present_any = ["language_models", "check"])]
    pub embedding_models: Vec<Named<PathBuf>>,

    /// Language model as NAME=FILE, a GGUF file of the Llama architecture.
    /// May be repeated; the first one is the default.
    #[arg(long = "language-model", value_name = "NAME=FILE")]
    pub language_models: Vec<Named<PathBuf>>,

    /// Refuse to start unless the weight file of model NAME has this SHA-256. May be repeated.
    #[arg(long = "expect-sha256", value_name = "NAME=HEX")]
    pub expected_sha256: Vec<Named<String>>,

    /// Requests that may wait; further ones are refused until the queue is shorter.
    #[arg(long, default_value_t = 256, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub queue_size: u32,

    /// Most tokens of a prompt and its answer together; a model's own limit holds when it is lower.
    #[arg(long, default_value_t = 8192, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub context_tokens: u32,

    /// Weights of a language model that fit this many MiB as f32 are unpacked at load: more memory,
    /// more speed. Larger models stay quantised.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    pub dequantize_below_mib: u64,

    /// Log filter in the syntax of tracing, for example "info,inference_sidecar=debug".
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// Start nothing: exit with 0 when the server on the socket is ready, else with 1.
    #[arg(long)]
    pub check: bool,
}

/// A value with the name that requests use for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T> {
    pub name: String,
    pub value: T,
}

impl Config {
    /// The SHA-256 that the weights of `model` must have, if the command line says one.
    pub fn expected_sha256(&self, model: &str) -> Option<&str> {
        self.expected_sha256
            .iter()
            .find(|e| e.name == model)
            .map(|e| e.value.as_str())
    }
}

impl<T: FromStr> FromStr for Named<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(is_plain) || value.is_empty() {
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

#[cfg(test)]
mod tests {
    //! Goal: a wrong command line is refused by the parser, not later.

    use super::*;

    #[test]
    fn command_line() {
        let check = |arguments: &str| {
            let words = ["sidecar", "--socket", "/run/s"]
                .into_iter()
                .chain(arguments.split(' '));
            Config::try_parse_from(words.filter(|word| !word.is_empty())).map_err(|e| e.to_string())
        };
        assert!(check("").is_err());
        assert!(check("--check").is_ok());
        assert!(check("--embedding-model /models/a").is_err());
        assert!(check("--embedding-model a=/x --queue-size 0").is_err());
        let listen = "--embedding-model a=/x --listen 0.0.0.0:1 --tls-cert-file c --tls-key-file k";
        assert!(check(listen).is_err(), "clients must be checked");
        assert!(check(&format!("{listen} --tls-client-ca-file a")).is_ok());
        let config = check("--language-model m=/x/y=z.gguf --expect-sha256 m=00ff").unwrap();
        assert_eq!(
            config.language_models[0].value,
            PathBuf::from("/x/y=z.gguf")
        );
        assert_eq!(config.expected_sha256("m"), Some("00ff"));
        assert_eq!(config.expected_sha256("n"), None);
    }
}
