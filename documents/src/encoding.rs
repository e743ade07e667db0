//! A file's bytes as text with Unix line ends.

use domain::text_encoding::decode_text;

use crate::DocumentError;

/// Bytes in which a page may name its encoding (HTML, 4.2.5.4).
const META_BYTES: usize = 1024;

/// The text of bytes in any encoding.
pub fn decode(content: &[u8]) -> Result<String, DocumentError> {
    decode_as(content, None)
}

/// As `decode`; a page's own word counts more than a guess.
pub fn decode_html(content: &[u8]) -> Result<String, DocumentError> {
    let start = String::from_utf8_lossy(&content[..content.len().min(META_BYTES)]).to_lowercase();
    let label = start.split("charset=").nth(1).and_then(|rest| {
        rest.trim_start_matches(['"', '\'', ' '])
            .split(|c: char| !c.is_ascii_alphanumeric() && !"-_:".contains(c))
            .next()
    });
    decode_as(content, label)
}

fn decode_as(content: &[u8], label: Option<&str>) -> Result<String, DocumentError> {
    let text = decode_text(content, label)
        .ok_or_else(|| DocumentError::damaged("it has bytes that are no text"))?;
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}
