//! Bytes as text, in whatever encoding they are.

use chardetng::EncodingDetector;
use encoding_rs::{Encoding, UTF_8};

use crate::DocumentError;

/// Bytes in which a page may name its encoding (HTML, 4.2.5.4).
const META_BYTES: usize = 1024;

/// The text in the encoding of its byte order mark, in UTF-8 where it is valid, else in the likeliest one.
pub fn decode(content: &[u8]) -> Result<String, DocumentError> {
    decode_as(content, None)
}

/// As `decode`; a page's own word counts more than a guess.
pub fn decode_html(content: &[u8]) -> Result<String, DocumentError> {
    let start = String::from_utf8_lossy(&content[..content.len().min(META_BYTES)]).to_lowercase();
    let named = start.split("charset=").nth(1).map(|rest| {
        let rest = rest.trim_start_matches(['"', '\'', ' ']);
        rest.split(|c: char| !c.is_ascii_alphanumeric() && !"-_:".contains(c))
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    decode_as(
        content,
        named.and_then(|name| Encoding::for_label(name.as_bytes())),
    )
}

fn decode_as(content: &[u8], named: Option<&'static Encoding>) -> Result<String, DocumentError> {
    let encoding = match Encoding::for_bom(content) {
        Some((encoding, _)) => encoding,
        None if std::str::from_utf8(content).is_ok() => UTF_8,
        // A page that is in UTF-16 could not have said so in bytes.
        None => named
            .filter(|encoding| encoding.is_ascii_compatible())
            .unwrap_or_else(|| guess(content)),
    };
    let (text, _, _) = encoding.decode(content);
    if text.contains('\0') {
        return Err(DocumentError::damaged("it has bytes that are no text"));
    }
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn guess(content: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(content, true);
    detector.guess(None, chardetng::Utf8Detection::Allow)
}
