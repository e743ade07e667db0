//! What the linear layers of an embedding model are rounded to.

use std::fmt;

use serde::Deserialize;

/// A number format; vLLM has an option of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// bfloat16.
    #[default]
    None,
    /// Faster, and not quite the same vectors.
    Int8,
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "bfloat16",
            Self::Int8 => "int8",
        })
    }
}
