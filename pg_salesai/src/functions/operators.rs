//! Semantic operators.

use domain::cascade::Target;
use domain::operators::Operator;
use pgrx::JsonB;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::error::Error;
use crate::generation::checked_context;
use crate::operators::{Application, Outcome, Targeted, apply, cascade, statistics};
use crate::progress;

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
    let rows = (1..).zip(outcomes).map(|(number, outcome)| {
        let (value, error) = shown(outcome);
        (number, value, error)
    });
    Ok(TableIterator::new(rows))
}

/// Fails where [`apply_operator`] would, whatever the document.
#[pg_extern(sql = "")]
fn check_operator(operator: &str, arguments: JsonB, options: JsonB) -> Result<(), ErrorReport> {
    checked_operator(operator, &arguments.0)?;
    let application = Application::parse(options.0)?;
    let (model, adapter) = (application.model.as_deref(), application.adapter.as_deref());
    checked_context(model, adapter)?;
    Ok(())
}

/// A value or an error as SQL shows it.
fn shown(outcome: Option<Outcome>) -> (Option<JsonB>, Option<String>) {
    match outcome {
        None | Some(Ok(Value::Null)) => (None, None),
        Some(Ok(value)) => (Some(JsonB(value)), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    }
}

type CascadeRow = (
    i32,
    Option<JsonB>,
    Option<String>,
    Option<&'static str>,
    f32,
    f32,
    f32,
    f32,
    f32,
);

/// A row for each document as of [`apply_operator`], with who decided it; what was reached is the same in all.
#[pg_extern(sql = "")]
#[expect(clippy::too_many_arguments, reason = "one for each of SQL")]
fn apply_cascade(
    operator: Option<&str>,
    documents: Option<Vec<Option<String>>>,
    arguments: Option<JsonB>,
    precision_min: Option<f64>,
    recall_min: Option<f64>,
    confidence: Option<f64>,
    seed: Option<i64>,
    options: Option<JsonB>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i32),
            name!(value, Option<JsonB>),
            name!(error, Option<String>),
            name!(decided_by, Option<&'static str>),
            name!(model_share, f32),
            name!(precision_estimate, f32),
            name!(precision_bound, f32),
            name!(recall_estimate, f32),
            name!(recall_bound, f32),
        ),
    >,
    ErrorReport,
> {
    let share = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let target = Target::new(share(precision_min), share(recall_min), share(confidence))
        .map_err(|error| Error::argument(error.to_string()))?;
    let targeted = Targeted {
        target,
        seed: seed.unwrap_or(0).cast_unsigned(),
    };
    let rows = cascaded(
        operator.unwrap_or_default(),
        &documents.unwrap_or_default(),
        &arguments.map_or_else(|| json!({}), |arguments| arguments.0),
        options.map_or_else(|| json!({}), |options| options.0),
        &targeted,
    )?;
    Ok(TableIterator::new(rows))
}

fn cascaded(
    name: &str,
    documents: &[Option<String>],
    arguments: &Value,
    options: Value,
    targeted: &Targeted,
) -> Result<Vec<CascadeRow>, Error> {
    let operator = checked_operator(name, arguments)?;
    let application = Application::parse(options)?;
    let cascaded = cascade(name, &operator, documents, &application, targeted)?;
    let asked = cascaded.outcomes.iter().flatten().count();
    let by_head = cascaded.by_head.iter().filter(|is_head| **is_head).count();
    let model_share = (asked - by_head) as f32 / asked.max(1) as f32;
    let reached = cascaded.reached;
    let outcomes = cascaded.outcomes.into_iter().zip(cascaded.by_head);
    let rows = (1..).zip(outcomes).map(|(number, (outcome, is_head))| {
        let decided_by = outcome
            .is_some()
            .then_some(if is_head { "head" } else { "model" });
        let (value, error) = shown(outcome);
        (
            number,
            value,
            error,
            decided_by,
            model_share,
            reached.precision as f32,
            reached.precision_bound as f32,
            reached.recall as f32,
            reached.recall_bound as f32,
        )
    });
    Ok(rows.collect())
}

fn checked_operator(name: &str, arguments: &Value) -> Result<Operator, Error> {
    Operator::new(name, arguments).map_err(|error| Error::argument(error.to_string()))
}

fn applied(
    name: &str,
    documents: &[Option<String>],
    arguments: &Value,
    options: Value,
) -> Result<Vec<Option<Outcome>>, Error> {
    let operator = checked_operator(name, arguments)?;
    apply(name, &operator, documents, &Application::parse(options)?)
}

#[pg_extern(sql = "")]
fn operator_progress() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(operator, String),
        name!(started_at, Option<TimestampWithTimeZone>),
        name!(texts, i64),
        name!(done, i64),
        name!(done_before, i64),
    ),
> {
    TableIterator::new(progress::visible().into_iter().map(|(pid, operator, at)| {
        (
            pid,
            operator,
            TimestampWithTimeZone::try_from(at.started_at).ok(),
            at.texts,
            at.done,
            at.done_before,
        )
    }))
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
        name!(remembered, i64),
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
            sums.remembered,
            sums.shortened,
            sums.prompt_tokens,
            sums.completion_tokens,
            sums.last_error,
        )
    }))
}
