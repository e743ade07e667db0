//! Words before a value that say what it is.

/// The text before a place, as far as such words reach: not beyond its line or so many characters.
pub(super) fn before(text: &str, at: usize, characters: usize) -> &str {
    let reach = text[..at].char_indices().rev().nth(characters - 1);
    let near = &text[reach.map_or(0, |(start, _)| start)..at];
    near.rsplit('\n').next().unwrap_or_default()
}
