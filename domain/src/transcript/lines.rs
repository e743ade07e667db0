//! Lines with their number and place; `\n`, `\r\n` and a lone `\r` end a line.

/// One line without its ending.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u32,
    /// Byte offset of the first character.
    pub(super) start: usize,
    pub(super) text: &'a str,
}

impl Line<'_> {
    /// Byte offset after the last character.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The lines of `text` in order.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    let mut number = 0;
    std::iter::from_fn(move || {
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = Line {
            number: number + 1,
            start,
            text: &rest[..length],
        };
        let ending = if rest[length..].starts_with("\r\n") {
            2
        } else {
            1
        };
        start += length + ending;
        number += 1;
        Some(line)
    })
}
