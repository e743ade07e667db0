//! Words before a value that say what it is.

/// The text before a place, as far as such words reach: not beyond its line or so many characters.
pub(super) fn before(text: &str, at: usize, characters: usize) -> &str {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let reach = text[line..at].char_indices().rev().nth(characters - 1);
    &text[line + reach.map_or(0, |(start, _)| start)..at]
}
