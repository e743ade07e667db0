//! Taking caption markup, entities and superfluous white space out of a text.

use mail_parser::decoders::html::add_html_token;

/// Entities longer than this are text (`&CounterClockwiseContourIntegral;` has 33 bytes).
const ENTITY_BYTES_MAX: usize = 40;

/// One line of clean text: tags stripped, entities decoded, white space collapsed.
pub(crate) fn clean_markup(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = tag_length(rest) {
            rest = &rest[length..];
        } else if let Some((decoded, length)) = decode_entity(rest) {
            text.push_str(&decoded);
            rest = &rest[length..];
        } else {
            text.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    collapse_whitespace(&text)
}

/// One line: runs of white space become one space, ends are trimmed, control characters go.
pub(crate) fn collapse_whitespace(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut space_due = false;
    for character in raw.chars() {
        if character.is_whitespace() {
            space_due = true;
        } else if !character.is_control() && character != '\u{feff}' {
            if space_due && !text.is_empty() {
                text.push(' ');
            }
            space_due = false;
            text.push(character);
        }
    }
    text
}

/// Length in bytes of the tag that `text` begins with: `<i>`, `</v>`, `<v.loud Name>`, `<00:01.000>`.
///
/// A tag has no `<` inside, so looking for its end costs no more than the way to the next tag.
pub(crate) fn tag_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('<')?;
    let first = inside.chars().next()?;
    let end = inside.find(['<', '>'])?;
    if !inside[end..].starts_with('>') {
        return None;
    }
    let is_tag = first == '/' || first.is_ascii_alphabetic();
    let is_time = inside[..end]
        .chars()
        .all(|c| c.is_ascii_digit() || c == ':' || c == '.');
    (is_tag || is_time).then_some(end + 2)
}

/// The text of the entity that `text` begins with (`&amp;`, `&#8217;`) and its length in bytes.
pub(crate) fn decode_entity(text: &str) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let name_end = bytes
        .iter()
        .take(ENTITY_BYTES_MAX)
        .position(|&byte| byte == b';')?;
    let token = bytes.get(..=name_end)?;
    let is_entity = token.len() > 2
        && token[0] == b'&'
        && token[1..name_end]
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'#');
    if !is_entity {
        return None;
    }
    let mut decoded = String::new();
    add_html_token(&mut decoded, token, false);
    // An unknown name comes back as it was written and stays text.
    (decoded.as_bytes() != token).then_some((decoded, name_end + 1))
}

#[cfg(test)]
#[path = "markup_tests.rs"]
mod tests;
