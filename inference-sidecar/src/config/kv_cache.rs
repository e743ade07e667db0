//! How the keys and values of a language model are kept.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;

/// A number format; vLLM has an option of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum KvCacheDtype {
    #[default]
    Float16,
    /// Half as large, and not quite the same answers; on the CPU only.
    Int8,
}

impl fmt::Display for KvCacheDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float16 => "float16",
            Self::Int8 => "int8",
        })
    }
}
