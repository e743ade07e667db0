//! Why a configuration is refused. The texts name keys, lines and paths; the file holds no secrets.

use std::path::PathBuf;

use thiserror::Error;

/// A configuration that the server does not start with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file named by `--config` cannot be read.
    #[error("could not read the configuration {path:?}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value out of its bounds; the source names line and key.
    #[error("the configuration {path:?} is not usable")]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    /// Values that are fine alone do not go together.
    #[error("\"{key}\" must be {expected}")]
    Value { key: &'static str, expected: String },
    /// The process could not start itself anew with its threads as they are wanted.
    #[error("could not start this program anew")]
    Restart { source: std::io::Error },
    /// No model of either kind and no route is given.
    #[error("no model is given: add [[embedding_model]], [[language_model]] or their flags")]
    NoModel,
    /// Requests could not tell the two apart.
    #[error("two models have the name \"{name}\"")]
    DuplicateName { name: String },
    /// `--expect-sha256` names something that is not served.
    #[error("--expect-sha256 names \"{name}\", which is no model of this configuration")]
    UnknownModel { name: String },
}
