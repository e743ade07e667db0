//! Every setting of the process: one TOML file, flags that override it, read and checked once.
//!
//! - [`Config`]: what the server runs with; `default.toml` is its manual and holds its defaults
//! - [`CommandLine`]: flags and subcommands, merged with the file into an [`Action`]
//! - [`review`]: what `--check-config` looks at beyond the syntax; [`check_memory`]: what the server does

mod address;
mod bounds;
mod command_line;
mod cpus;
mod device;
mod error;
mod file;
mod kv_cache;
mod memory;
mod models;
mod quantization;
mod review;

pub use address::MetricsAddress;
pub use command_line::{Action, CommandLine};
pub use cpus::CpuList;
pub use device::DeviceConfig;
pub use error::ConfigError;
pub use file::{Config, DEFAULT_FILE};
pub use kv_cache::KvCacheDtype;
pub use memory::check_memory;
pub use models::{BertModelConfig, LanguageModelConfig};
pub use quantization::Quantization;
pub use review::{Review, review};

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
