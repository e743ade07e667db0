//! Where the metrics are served.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// A TCP address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl MetricsAddress {
    /// True when only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            MetricsAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            MetricsAddress::Unix(_) => true,
        }
    }
}

impl FromStr for MetricsAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(MetricsAddress::Unix(path.into()));
        }
        text.parse().map(MetricsAddress::Tcp).map_err(
            |_| "expected ADDRESS:PORT with a numeric address, for example \"127.0.0.1:9464\", or an absolute path",
        )
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Tcp(address) => write!(formatter, "http://{address}"),
            MetricsAddress::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}
