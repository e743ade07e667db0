//! Byte offsets to character offsets (Unicode scalar values), for positions that only move forward.

/// Counts characters once over the whole text, however many positions are asked for.
pub(crate) struct CharOffsets<'a> {
    text: &'a str,
    byte: usize,
    char: u32,
}

impl<'a> CharOffsets<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            byte: 0,
            char: 0,
        }
    }

    /// The character offset of `byte`, which must be a character border not before the last one asked.
    pub(crate) fn at(&mut self, byte: usize) -> u32 {
        debug_assert!(byte >= self.byte, "positions only move forward");
        let passed = self.text.get(self.byte..byte).unwrap_or_default();
        // Every text has a byte limit far below `u32::MAX`, so the count fits.
        self.char = self.char.saturating_add(passed.chars().count() as u32);
        self.byte = byte.max(self.byte);
        self.char
    }
}

/// The part of `range` (bytes) that is left when white space at both ends is dropped.
pub(crate) fn trim_range(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let part = text.get(range.clone()).unwrap_or_default();
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}
