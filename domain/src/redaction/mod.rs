//! What must not be read by everybody: personal data in a text, found by rules, and the text without it.
//!
//! - `kind`: the kinds of personal data
//! - `internet`: e-mail addresses, IP addresses, credentials in URLs
//! - `payment`: card numbers, IBANs
//! - `national_id`: social security, tax and identity numbers
//! - `phone`, `address`, `birth_date`: telephone numbers, street addresses, dates of birth
//! - `names`: names that are known from participants, contacts and users
//! - `offset_map`: from the redacted text back to the original
//!
//! A number with a checksum is taken where the checksum holds; one without only by its shape or by the words
//! before it.

mod address;
mod birth_date;
mod internet;
mod kind;
mod labels;
mod names;
mod national_id;
mod offset_map;
mod payment;
mod phone;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::char_offsets::CharOffsets;

pub use kind::{KindSet, PiiKind};
pub use names::KnownNames;
pub use offset_map::{OffsetMap, Replacement};

/// Personal data in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: PiiKind,
    /// Bytes of the text.
    pub bytes: Range<usize>,
}

/// Adds findings of one kind.
fn add(found: &mut Vec<Finding>, kind: PiiKind, ranges: impl Iterator<Item = Range<usize>>) {
    found.extend(ranges.map(|bytes| Finding { kind, bytes }));
}

/// A text without the personal data.
pub struct RedactedText {
    pub text: String,
    pub map: OffsetMap,
}

/// Personal data of the given kinds, in the order of the text; no two overlap.
pub fn find_pii(text: &str, kinds: KindSet, names: &KnownNames) -> Vec<Finding> {
    let mut found = Vec::new();
    // All kinds are looked for, so that a card number that may stay is not taken for a telephone number.
    internet::find(text, &mut found);
    payment::find(text, &mut found);
    national_id::find(text, &mut found);
    birth_date::find(text, &mut found);
    phone::find(text, &mut found);
    address::find(text, &mut found);
    names.find(text, &mut found);
    without_overlaps(text, found, kinds)
}

/// Replaces each finding, which are in the order of the text, by the name of its kind in brackets.
pub fn redact(text: &str, findings: &[Finding]) -> RedactedText {
    let mut redacted = RedactedText {
        text: String::with_capacity(text.len()),
        map: OffsetMap::default(),
    };
    let mut original = CharOffsets::new(text);
    // Characters that the redacted text has more, or less.
    let mut shift = 0;
    let mut rest = 0;
    for finding in findings {
        let label = finding.kind.label();
        let replaced = original.at(finding.bytes.start)..original.at(finding.bytes.end);
        let start = replaced.start.wrapping_add_signed(shift);
        // Labels are a few ASCII characters.
        let end = start + label.len() as u32;
        shift = end.wrapping_sub(replaced.end).cast_signed();
        redacted.map.push(Replacement {
            original: replaced,
            redacted: start..end,
        });
        redacted.text.push_str(&text[rest..finding.bytes.start]);
        redacted.text.push_str(label);
        rest = finding.bytes.end;
    }
    redacted.text.push_str(&text[rest..]);
    redacted
}

/// Of findings that overlap, the one whose kind is surer stays (of the same kind, the longer one), and of the others
/// what it leaves. One of a kind that may stay takes away what lies within it.
fn without_overlaps(text: &str, mut found: Vec<Finding>, kinds: KindSet) -> Vec<Finding> {
    found.sort_by_key(|finding| (finding.kind, std::cmp::Reverse(finding.bytes.len())));
    let mut kept: BTreeMap<usize, Finding> = BTreeMap::new();
    let mut may_stay: BTreeMap<usize, usize> = BTreeMap::new();
    for finding in found {
        let Range { start, end } = finding.bytes;
        if !kinds.contains(finding.kind) {
            let known = may_stay.entry(start).or_insert(end);
            *known = end.max(*known);
            continue;
        }
        let around = may_stay.range(..=start).next_back();
        if around.is_some_and(|(_, around)| *around >= end) {
            continue;
        }
        for bytes in uncovered(start..end, &kept) {
            if text[bytes.clone()].contains(char::is_alphanumeric) {
                let kind = finding.kind;
                kept.insert(bytes.start, Finding { kind, bytes });
            }
        }
    }
    kept.into_values().collect()
}

/// The parts of a range that no finding covers.
fn uncovered(range: Range<usize>, kept: &BTreeMap<usize, Finding>) -> Vec<Range<usize>> {
    let before = kept.range(..range.start).next_back();
    let mut at = before.map_or(range.start, |(_, before)| before.bytes.end.max(range.start));
    let mut parts = Vec::new();
    for finding in kept
        .range(range.start..range.end)
        .map(|(_, finding)| finding)
    {
        if at < finding.bytes.start {
            parts.push(at..finding.bytes.start);
        }
        at = at.max(finding.bytes.end);
    }
    if at < range.end {
        parts.push(at..range.end);
    }
    parts
}
