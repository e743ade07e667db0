//! One operator over many documents.

use std::collections::HashMap;
use std::mem::discriminant;

use domain::operators::Operator;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::PgLogLevel;
use proto::client::ClientError;
use serde::Deserialize;
use serde_json::Value;

use super::asking::{Asking, Maker};
use super::condensing;
use super::document_error::DocumentError;
use super::statistics::count;
use crate::error::Error;
use crate::sidecar::Deadline;

/// Documents of one call.
const DOCUMENTS_MAX: usize = 100_000;
/// Warnings of one call that name a document.
const DETAILS_MAX: usize = 10;

/// How an operator is applied; `salesai.operator_options` makes it of SQL arguments.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Application {
    pub model: Option<String>,
    pub adapter: Option<String>,
    pub(super) timeout_ms: Option<i32>,
    /// Version of the prompt template; None: the active one.
    pub(super) prompt_version: Option<i32>,
    on_error: OnError,
    /// Share of documents that may fail before the whole call does; None: all.
    max_error_ratio: Option<f64>,
}

/// What becomes of a document that fails.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum OnError {
    /// NULL, counted, and a warning for the call.
    #[default]
    Null,
    /// The whole call fails.
    Error,
    /// NULL, and a warning for each of the first few.
    Detail,
}

impl Application {
    /// Reads options as SQL hands them over.
    pub fn parse(options: Value) -> Result<Self, Error> {
        let application: Self = serde_json::from_value(options)
            .map_err(|error| Error::argument(format!("options cannot be read: {error}")))?;
        let ratio = application.max_error_ratio.unwrap_or(1.0);
        match (0.0..=1.0).contains(&ratio) {
            true => Ok(application),
            false => Err(Error::argument("max_error_ratio must be between 0 and 1")),
        }
    }
}

/// A value, which may be null, or why there is none.
pub type Outcome = Result<Value, DocumentError>;

/// Outcomes in the order of the documents; None for one that is NULL or blank. Equal documents are asked about once.
pub fn apply(
    name: &str,
    operator: &Operator,
    documents: &[Option<String>],
    application: &Application,
) -> Result<Vec<Option<Outcome>>, Error> {
    let deadline = Deadline::from_argument(application.timeout_ms)?;
    let applied = applied(name, operator, documents, application, deadline)?;
    settle(name, &applied.outcomes, application)?;
    Ok(applied.outcomes)
}

/// Outcomes as of [`apply`], and who answered; None when no model was asked.
pub struct Applied {
    pub outcomes: Vec<Option<Outcome>>,
    pub maker: Option<Maker>,
}

/// [`apply`] for somebody who takes each outcome as it is.
pub fn applied(
    name: &str,
    operator: &Operator,
    documents: &[Option<String>],
    application: &Application,
    deadline: Deadline,
) -> Result<Applied, Error> {
    let distinct = Distinct::of(documents)?;
    let asking = Asking::new(name, operator, application, deadline)?;
    let answers = match operator.condenses() {
        true => condensing::condensed(&asking, &distinct.texts)?,
        false => asking.values(&distinct.texts)?,
    };
    let outcomes = distinct
        .places
        .iter()
        .map(|place| Some(answers[(*place)?].clone()))
        .collect();
    Ok(Applied {
        outcomes,
        maker: asking.maker.into_inner(),
    })
}

/// Documents without repetitions.
pub(super) struct Distinct<'a> {
    pub texts: Vec<&'a str>,
    /// For each document the place of its text; None where it is NULL or blank.
    pub places: Vec<Option<usize>>,
}

impl<'a> Distinct<'a> {
    pub fn of(documents: &'a [Option<String>]) -> Result<Self, Error> {
        if documents.len() > DOCUMENTS_MAX {
            return Err(Error::argument(format!(
                "documents must be at most {DOCUMENTS_MAX}"
            )));
        }
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut texts = Vec::new();
        let places = documents.iter().map(|document| {
            let text = document.as_deref().filter(|text| !text.trim().is_empty())?;
            Some(*known.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            }))
        });
        let places = places.collect();
        Ok(Self { texts, places })
    }
}

/// Counts, warns, or fails, as the caller wants it.
pub(super) fn settle(
    name: &str,
    outcomes: &[Option<Outcome>],
    application: &Application,
) -> Result<(), Error> {
    let asked = outcomes.iter().flatten().count();
    let failures: Vec<(usize, &DocumentError)> = (1..)
        .zip(outcomes)
        .filter_map(|(number, outcome)| Some((number, outcome.as_ref()?.as_ref().err()?)))
        .collect();
    count(name, |sums| {
        sums.calls += 1;
        sums.documents += i64::try_from(asked).unwrap_or(i64::MAX);
        sums.failures += i64::try_from(failures.len()).unwrap_or(i64::MAX);
        if let Some((_, error)) = failures.last() {
            sums.last_error = Some(error.to_string());
        }
    });
    match failure_of_all(&failures, asked, application) {
        Some(error) => Err(error),
        None => {
            warn(&failures, asked, application.on_error);
            Ok(())
        }
    }
}

/// Why the whole call fails, if it does.
fn failure_of_all(
    failures: &[(usize, &DocumentError)],
    asked: usize,
    application: &Application,
) -> Option<Error> {
    let (number, first) = *failures.first()?;
    if application.on_error == OnError::Error {
        return Some(first.clone().into());
    }
    let has_none = failures.len() == asked;
    let other = failures.iter().find(|(_, error)| !error.is_of_document());
    if let (true, Some((_, error))) = (has_none, other) {
        return Some((*error).clone().into());
    }
    let ratio = application.max_error_ratio.unwrap_or(1.0);
    if failures.len() as f64 <= ratio * asked as f64 {
        return None;
    }
    let is_same = failures
        .iter()
        .all(|(_, error)| discriminant_of(error) == discriminant_of(first));
    Some(match is_same {
        true => first.clone().into(),
        false => Error::TooManyFailures {
            failed: failures.len(),
            asked,
            first: format!("Document {number}: {first}."),
        },
    })
}

/// What kind of error it is.
fn discriminant_of(
    error: &DocumentError,
) -> (
    std::mem::Discriminant<DocumentError>,
    Option<std::mem::Discriminant<ClientError>>,
) {
    let of_sidecar = match error {
        DocumentError::Sidecar(error) => Some(discriminant(error)),
        _ => None,
    };
    (discriminant(error), of_sidecar)
}

fn warn(failures: &[(usize, &DocumentError)], asked: usize, on_error: OnError) {
    let report = |message: String| {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            message,
            pgrx::function_name!(),
        )
    };
    if on_error == OnError::Detail {
        for (number, error) in failures.iter().take(DETAILS_MAX) {
            report(format!("document {number} has no result: {error}")).report(PgLogLevel::WARNING);
        }
    }
    // One document is counted; it would be a warning for each row of a table.
    if asked > 1 && !failures.is_empty() {
        report(format!(
            "{} of {asked} documents have no result",
            failures.len()
        ))
        .set_hint("on_error => 'detail' names them; salesai.apply_operator shows each error.")
        .report(PgLogLevel::WARNING);
    }
}
