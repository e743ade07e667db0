//! Where a language model computes.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A processor or an accelerator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceConfig {
    /// The kernels for the processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
}

impl DeviceConfig {
    /// False for a GPU where the server was built without the feature `cuda`.
    pub fn is_built_in(self) -> bool {
        self == Self::Cpu || cfg!(feature = "cuda")
    }
}

impl fmt::Display for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl<'de> Deserialize<'de> for DeviceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = || text.strip_prefix("cuda:")?.parse().ok();
        match text.as_str() {
            "cpu" => Ok(Self::Cpu),
            _ => number()
                .map(Self::Cuda)
                .ok_or_else(|| de::Error::custom("expected \"cpu\" or \"cuda:0\"")),
        }
    }
}
