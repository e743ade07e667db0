//! Personal data taken out of texts, and the originals of what was changed.

use domain::redaction::{KindSet, KnownNames, PiiKind, RedactedText, find_pii, redact};
use pgrx::JsonB;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Deserialize;

use crate::error::Error;
use crate::vault::{MasterKey, Part, Row};

/// A segment as parsers and `salesai.apply_redaction` give it.
#[derive(Deserialize)]
struct SegmentText {
    content: String,
}

/// What is stored of a segment.
type SegmentRow = (i32, String, Option<Vec<i32>>, Option<Vec<u8>>);

#[pg_extern(sql = "")]
fn pii_kinds() -> Vec<&'static str> {
    PiiKind::ALL.into_iter().map(PiiKind::name).collect()
}

#[pg_extern(sql = "")]
fn redact_text(
    content: &str,
    kinds: Vec<Option<String>>,
    names: Vec<Option<String>>,
) -> Result<String, ErrorReport> {
    let rules = Rules::new(&kinds, &names)?;
    Ok(rules.apply(content).text)
}

/// Each segment with its place from 0; what was changed is sealed as it was.
#[pg_extern(sql = "")]
fn redact_segments(
    segments: JsonB,
    kinds: Vec<Option<String>>,
    names: Vec<Option<String>>,
    wrapped_key: &[u8],
    interaction_id: i64,
    version: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(position, i32),
            name!(content, String),
            name!(redactions, Option<Vec<i32>>),
            name!(sealed, Option<Vec<u8>>),
        ),
    >,
    ErrorReport,
> {
    let rules = Rules::new(&kinds, &names)?;
    let segments: Vec<SegmentText> = serde_json::from_value(segments.0).map_err(Error::from)?;
    let row = Row {
        interaction_id,
        version,
        part: Part::Payload,
    };
    let rows = redacted_rows(&rules, segments, wrapped_key, row)?;
    Ok(TableIterator::new(rows))
}

fn redacted_rows(
    rules: &Rules,
    segments: Vec<SegmentText>,
    wrapped_key: &[u8],
    row: Row,
) -> Result<Vec<SegmentRow>, Error> {
    let mut key = None;
    let mut rows = Vec::with_capacity(segments.len());
    for (position, segment) in (0..).zip(segments) {
        let redacted = rules.apply(&segment.content);
        if redacted.map.replacements().is_empty() {
            rows.push((position, segment.content, None, None));
            continue;
        }
        let key = match &mut key {
            Some(key) => key,
            none => none.insert(MasterKey::load()?),
        };
        let row = Row {
            part: Part::Segment(position),
            ..row
        };
        let sealed = key.seal(segment.content.as_bytes(), wrapped_key, row)?;
        let places = places(&redacted);
        rows.push((position, redacted.text, Some(places), Some(sealed)));
    }
    Ok(rows)
}

/// Original start and end, redacted start and end of each replacement, one behind the other.
fn places(redacted: &RedactedText) -> Vec<i32> {
    let replacements = redacted.map.replacements().iter();
    replacements
        .flat_map(|r| {
            [
                r.original.start,
                r.original.end,
                r.redacted.start,
                r.redacted.end,
            ]
        })
        // Texts have a byte limit below this.
        .map(|place| i32::try_from(place).unwrap_or(i32::MAX))
        .collect()
}

/// What is taken out.
struct Rules {
    kinds: KindSet,
    names: KnownNames,
}

impl Rules {
    fn new(kinds: &[Option<String>], names: &[Option<String>]) -> Result<Self, Error> {
        let kind = |name: &String| {
            PiiKind::from_name(name).ok_or_else(|| Error::Argument {
                message: format!("\"{name}\" is no kind of personal data"),
                hint: Some("salesai.pii_kinds() lists the kinds."),
            })
        };
        Ok(Self {
            kinds: kinds.iter().flatten().map(kind).collect::<Result<_, _>>()?,
            names: KnownNames::new(names.iter().flatten().map(String::as_str)),
        })
    }

    fn apply(&self, content: &str) -> RedactedText {
        redact(content, &find_pii(content, self.kinds, &self.names))
    }
}
