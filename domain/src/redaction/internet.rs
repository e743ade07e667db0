//! E-mail addresses, IP addresses, and credentials in URLs.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use super::{Finding, PiiKind, add};

/// As HTML's `<input type=email>` takes them, with a top-level domain and without slashes, which stand before them in URLs.
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[\w.!#$%&'*+=?^`{|}~-]+@(?:[\w-]+\.)+[A-Za-z]\w+").expect("is a pattern")
});

/// User name and password before the host (RFC 3986, 3.2.1).
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://([^\s/?#@]+)@").expect("is a pattern")
});

/// Secrets that are passed as parameters.
static SECRET_PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)[?&#](?:access_token|refresh_token|id_token|token|api_?key|key|secret|client_secret|password|passwd|pwd|sig|signature|auth)=([^\s&#]+)",
    )
    .expect("is a pattern")
});

static IP_V4: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b").expect("is a pattern"));

static IP_V6: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:[0-9]{0,3}(?:\.[0-9]{1,3}){3})?")
        .expect("is a pattern")
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for pattern in [&USER_INFO, &SECRET_PARAMETER] {
        let secrets = pattern.captures_iter(text).filter_map(|found| found.get(1));
        add(
            found,
            PiiKind::UrlCredentials,
            secrets.map(|secret| secret.range()),
        );
    }
    add(
        found,
        PiiKind::Email,
        EMAIL.find_iter(text).map(|email| email.range()),
    );
    let addresses = IP_V4.find_iter(text).filter(|address| {
        // Five numbers with points between them are a version or a section.
        let is_part = text[..address.start()].ends_with('.')
            || text[address.end()..].starts_with('.')
                && text[address.end() + 1..].starts_with(|c: char| c.is_ascii_digit());
        !is_part && address.as_str().parse::<Ipv4Addr>().is_ok()
    });
    let addresses_v6 = IP_V6.find_iter(text).filter(|address| {
        // `::` alone is a path in some languages.
        let digits = address.as_str().bytes().filter(u8::is_ascii_hexdigit);
        let is_word = |c: char| c.is_alphanumeric() || c == ':';
        digits.count() >= 3
            && !text[..address.start()].ends_with(is_word)
            && !text[address.end()..].starts_with(is_word)
            && address.as_str().parse::<Ipv6Addr>().is_ok()
    });
    let addresses = addresses.chain(addresses_v6).map(|address| address.range());
    add(found, PiiKind::IpAddress, addresses);
}
