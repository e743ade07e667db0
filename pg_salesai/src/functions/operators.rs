//! Semantic operators.

use domain::operators::Operator;
use pgrx::JsonB;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::error::Error;
use crate::operators::{Application, Outcome, apply, statistics};

/// A row for each document: its number from 1, and a value or an error.
#[pg_extern(sql = "")]
fn apply_operator(
    operator: Option<&str>,
    documents: Option<Vec<Option<String>>>,
    arguments: Option<JsonB>,
    options: Option<JsonB>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i32),
            name!(value, Option<JsonB>),
            name!(error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let json = |value: Option<JsonB>| value.map_or_else(|| json!({}), |value| value.0);
    let outcomes = applied(
        operator.unwrap_or_default(),
        &documents.unwrap_or_default(),
        &json(arguments),
        json(options),
    )?;
    let rows = (1..).zip(outcomes).map(|(number, outcome)| match outcome {
        None | Some(Ok(Value::Null)) => (number, None, None),
        Some(Ok(value)) => (number, Some(JsonB(value)), None),
        Some(Err(error)) => (number, None, Some(error.to_string())),
    });
    Ok(TableIterator::new(rows))
}

fn applied(
    name: &str,
    documents: &[Option<String>],
    arguments: &Value,
    options: Value,
) -> Result<Vec<Option<Outcome>>, Error> {
    let operator =
        Operator::new(name, arguments).map_err(|error| Error::argument(error.to_string()))?;
    apply(name, &operator, documents, &Application::parse(options)?)
}

#[pg_extern(sql = "")]
fn operator_statistics() -> TableIterator<
    'static,
    (
        name!(operator, String),
        name!(calls, i64),
        name!(documents, i64),
        name!(failures, i64),
        name!(generations, i64),
        name!(shortened, i64),
        name!(prompt_tokens, i64),
        name!(completion_tokens, i64),
        name!(last_error, Option<String>),
    ),
> {
    TableIterator::new(statistics().into_iter().map(|(operator, sums)| {
        (
            operator,
            sums.calls,
            sums.documents,
            sums.failures,
            sums.generations,
            sums.shortened,
            sums.prompt_tokens,
            sums.completion_tokens,
            sums.last_error,
        )
    }))
}
