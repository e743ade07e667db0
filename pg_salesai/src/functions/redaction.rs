//! Personal data taken out of texts, and the originals of what was changed.

use domain::redaction::{KindSet, KnownNames, PiiKind, RedactedText, find_pii, redact};
use pgrx::datum::DatumWithOid;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, JsonB, check_for_interrupts};
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

/// The content without what a policy hides from the session's role.
pub(super) fn visible(content: String, interaction_id: i64) -> Result<String, Error> {
    let kinds = hidden_kinds()?;
    if kinds.is_empty() {
        return Ok(content);
    }
    // Operators are named with their schema: the caller chooses the search path.
    let names: Option<Vec<Option<String>>> = read_one(
        "select salesai.known_names(i.account_id, i.id) from salesai.interaction i
         where i.id operator(pg_catalog.=) $1",
        &[interaction_id.into()],
    )?;
    let rules = Rules::new(&kinds, &names.unwrap_or_default())?;
    Ok(rules.apply(&content).text)
}

/// Fails where a policy hides something from the session's role: a file as it came cannot be shown in part.
pub(super) fn require_whole_originals() -> Result<(), Error> {
    match hidden_kinds()?.is_empty() {
        true => Ok(()),
        false => Err(Error::HiddenKinds),
    }
}

fn hidden_kinds() -> Result<Vec<Option<String>>, Error> {
    // A schema of before 0.3.0 has no policies.
    const HAS_POLICIES: &str =
        "select pg_catalog.to_regprocedure('salesai.hidden_kinds()') is not null";
    if read_one::<bool>(HAS_POLICIES, &[])? != Some(true) {
        return Ok(Vec::new());
    }
    Ok(read_one("select salesai.hidden_kinds()", &[])?.unwrap_or_default())
}

/// As `Spi::get_one_with_args`, which takes a transaction id: a standby has none.
fn read_one<T: FromDatum + IntoDatum>(
    query: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, Error> {
    Spi::connect(|client| {
        Ok(client
            .select(query, Some(1), arguments)?
            .first()
            .get_one()?)
    })
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
        check_for_interrupts!();
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
