//! Finding the chunks of an earlier version in the present one.

use std::ops::Range;

use super::{Unit, text_parts};

/// How far ahead of the last chunk found the next one is looked for, in units. What moved further is embedded
/// again; the bound keeps the search linear.
const UNITS_AHEAD: usize = 2_000;

/// A chunk of an earlier version.
#[derive(Debug, Clone, Copy)]
pub struct PreviousChunk<'a> {
    /// The unit that it began with.
    pub start: usize,
    pub text: &'a str,
}

/// Ranges of `units` whose text is one of the `previous` chunks, in their order; both starts and ends increase.
///
/// Each is looked for where it was, moved as the one before it moved, so that a text that repeats itself keeps its
/// place; then where it comes first.
pub fn kept_ranges(units: &[Unit], previous: &[PreviousChunk]) -> Vec<Range<usize>> {
    let mut kept: Vec<Range<usize>> = Vec::new();
    let mut shift = 0;
    for chunk in previous {
        let (start_min, end_min) = match kept.last() {
            Some(last) => (last.start + 1, last.end + 1),
            None => (0, 1),
        };
        let start_max = units.len().min(start_min.saturating_add(UNITS_AHEAD));
        let expected = chunk.start.checked_add_signed(shift);
        let expected = expected.filter(|start| (start_min..start_max).contains(start));
        let found = expected
            .into_iter()
            .chain(start_min..start_max)
            .find_map(|start| {
                let end = start + unit_count(&units[start..], chunk.text)?;
                (end >= end_min).then_some(start..end)
            });
        if let Some(range) = found {
            shift = range.start.cast_signed() - chunk.start.cast_signed();
            kept.push(range);
        }
    }
    kept
}

/// How many of the first units make up `text` exactly.
fn unit_count(units: &[Unit], text: &str) -> Option<usize> {
    let mut rest = text;
    for position in 0..units.len() {
        for part in text_parts(units, position) {
            rest = rest.strip_prefix(part)?;
        }
        if rest.is_empty() {
            return Some(position + 1);
        }
    }
    None
}
