//! From characters of a redacted text to those of the original.

use std::ops::Range;

/// A place where a redacted text differs from the original, in characters (Unicode scalar values).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub original: Range<u32>,
    pub redacted: Range<u32>,
}

/// Where the texts differ, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetMap(Vec<Replacement>);

impl OffsetMap {
    pub(super) fn push(&mut self, replacement: Replacement) {
        self.0.push(replacement);
    }

    pub fn replacements(&self) -> &[Replacement] {
        &self.0
    }

    /// The characters of the original that a range of the redacted text stands for; a part of a label stands
    /// for all that it replaces.
    pub fn to_original(&self, redacted: Range<u32>) -> Range<u32> {
        self.start(redacted.start)..self.end(redacted.end.max(redacted.start))
    }

    fn start(&self, at: u32) -> u32 {
        let behind = self.0.partition_point(|r| r.redacted.end <= at);
        match self.0.get(behind) {
            Some(r) if r.redacted.start <= at => r.original.start,
            _ => self.shifted(behind, at),
        }
    }

    fn end(&self, at: u32) -> u32 {
        let behind = self.0.partition_point(|r| r.redacted.end <= at);
        match self.0.get(behind) {
            Some(r) if r.redacted.start < at => r.original.end,
            _ => self.shifted(behind, at),
        }
    }

    /// A place in the text that both have, `behind` replacements.
    fn shifted(&self, behind: usize, at: u32) -> u32 {
        match behind.checked_sub(1).map(|last| &self.0[last]) {
            Some(last) => last.original.end + (at - last.redacted.end),
            None => at,
        }
    }
}
