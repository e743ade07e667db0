//! Where an upstream is, and whether the allow-list names it.

use std::fmt;
use std::path::PathBuf;

use hyper::Uri;

/// A place that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(TcpAddress),
    Unix(PathBuf),
}

/// A host and a port, as the configuration writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TcpAddress {
    /// Lower case; an IPv6 address stands in brackets.
    pub host: String,
    pub port: u16,
    pub has_tls: bool,
    /// What comes before `/v1`; empty or `/...` without a slash at the end.
    pub path: String,
}

impl Address {
    /// Reads `http://`, `https://` and `unix:` addresses; user names, queries and anything else that
    /// could hide another destination or a secret are refused.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Address::Unix(path.into())),
                false => Err("a \"unix:\" address needs an absolute path"),
            };
        }
        let uri: Uri = url.parse().map_err(|_| "the address is not a URL")?;
        let has_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("the address must begin with \"http:\", \"https:\" or \"unix:\""),
        };
        let authority = uri.authority().ok_or("the address has no host")?;
        if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
            return Err("the address must have no user, query or fragment");
        }
        if authority.host().is_empty() {
            return Err("the address has no host");
        }
        Ok(Address::Tcp(TcpAddress {
            host: authority.host().to_ascii_lowercase(),
            port: match authority.port_u16() {
                Some(port) => port,
                None if authority.as_str().len() > authority.host().len() => {
                    return Err("the port is not a number from 0 to 65535");
                }
                None if has_tls => 443,
                None => 80,
            },
            has_tls,
            path: uri.path().trim_end_matches('/').to_owned(),
        }))
    }

    /// True when an entry of `allowed_hosts` is exactly this host, host and port, or socket.
    pub fn is_allowed(&self, allowed_hosts: &[String]) -> bool {
        let is_this = |entry: &String| match self {
            Address::Unix(_) => *entry == self.to_string(),
            Address::Tcp(tcp) => {
                let entry = entry.to_ascii_lowercase();
                entry == tcp.host || entry == self.to_string()
            }
        };
        allowed_hosts.iter().any(is_this)
    }
}

impl TcpAddress {
    /// The host as the resolver and TLS want it, without brackets.
    pub fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// True when the traffic stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let is_loopback = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
        self.host == "localhost" || self.bare_host().parse().is_ok_and(is_loopback)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(tcp) => write!(formatter, "{}:{}", tcp.host, tcp.port),
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an address is allowed only when the list names it as written, and no spelling of a URL
    //! leads past the list.

    use super::*;

    #[test]
    fn exact_matches_only() {
        for (url, list, expected) in [
            ("http://gpu1:8000", "gpu1", true),
            ("http://gpu1:8000", "gpu1:8000", true),
            ("https://GPU1.corp/prefix/", "gpu1.corp:443", true),
            ("http://[::1]:8000", "[::1]:8000", true),
            ("unix:/run/s.sock", "unix:/run/s.sock", true),
            ("http://gpu1:8000", "", false),
            ("http://gpu1:8000", "gpu1:8001", false),
            ("http://gpu1:8000", "gpu", false),
            ("http://gpu1:8000", "*", false),
            ("http://gpu1.evil:8000", "gpu1", false),
            ("http://gpu1.:8000", "gpu1", false),
            ("http://127.0.0.1:80", "localhost", false),
            ("http://127.1:80", "127.0.0.1", false),
            ("http://[::ffff:127.0.0.1]:80", "127.0.0.1", false),
            ("unix:/run/other", "unix:/run/s.sock", false),
            ("unix:/run/../run/s.sock", "unix:/run/s.sock", false),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.is_allowed(&[list.into()]), expected, "{url} {list}");
            assert!(!address.is_allowed(&[]), "{url}");
        }
    }

    #[test]
    fn refused_addresses() {
        for url in [
            "",
            "gpu1:8000",
            "ftp://gpu1",
            "http://",
            "http://gpu1@evil:80",
            "http://user:key@gpu1",
            "http://gpu1/?next=evil",
            "http://gpu1/#evil",
            "http://gpu1:80000",
            "http://gpu1:x",
            "http://gpu 1",
            "unix:relative",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn parts() {
        let Ok(Address::Tcp(tcp)) = Address::parse("https://[::1]/llm/") else {
            panic!()
        };
        assert_eq!((tcp.port, tcp.path.as_str()), (443, "/llm"));
        assert_eq!((tcp.bare_host(), tcp.is_loopback()), ("::1", true));
    }
}
