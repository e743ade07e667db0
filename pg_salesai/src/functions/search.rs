//! The legs of search, and the upkeep of the lexical index.

use chrono::{NaiveDate, TimeDelta};
use domain::discussion;
use domain::diversity::{Candidate, diversify};
use domain::lexical::{Parameters, parse_query as parse};
use domain::period;
use domain::top::Hit;
use pgrx::datum::{Date, Internal};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use proto::model::ModelChoice;
use serde_json::json;

use super::models::not_null;
use crate::config;
use crate::rights::WorkerRights;
use crate::search::admission::Condition;
use crate::search::{coding, dense, estimate, lexical, merging, reranking, row_estimate};
use crate::sidecar::Deadline;

#[pg_extern(sql = "")]
fn merge_lexical_delta(chunks_min: i32) -> Result<bool, ErrorReport> {
    let _rights = WorkerRights::assume();
    Ok(merging::merge_delta(i64::from(chunks_min.max(1)))?)
}

#[pg_extern(sql = "")]
fn merge_lexical_segments() -> Result<bool, ErrorReport> {
    let _rights = WorkerRights::assume();
    Ok(merging::merge_segments()?)
}

#[pg_extern(sql = "")]
fn merge_embedding_delta(vectors_min: i32) -> Result<bool, ErrorReport> {
    let _rights = WorkerRights::assume();
    Ok(coding::merge_delta(vectors_min.max(1))?)
}

#[pg_extern(sql = "")]
fn code_embeddings(set_id: i64) -> Result<i64, ErrorReport> {
    let _rights = WorkerRights::assume();
    Ok(coding::renew_all(set_id)?)
}

/// What a user wrote, taken apart.
#[pg_extern(sql = "")]
fn parse_query(query: &str) -> JsonB {
    let query = parse(query);
    JsonB(json!({
        "text": query.text,
        "phrases": query.phrases,
        "excluded": query.excluded,
        "prefixes": query.prefixes,
    }))
}

#[pg_extern(sql = "")]
fn subject_of_discussion(query: &str) -> Option<String> {
    discussion::subject_of_discussion(query)
}

/// The request itself where it is answered, else a null pointer, which is not NULL.
#[pg_extern(sql = "")]
fn search_support(request: Internal) -> Internal {
    let request = request.unwrap().unwrap_or(pg_sys::Datum::null());
    // SAFETY: only the planner calls a function of this type.
    #[allow(unsafe_code)]
    let is_answered = unsafe { row_estimate::answer(request.cast_mut_ptr()) };
    let answer = if is_answered {
        request
    } else {
        pg_sys::Datum::null()
    };
    Internal::from(Some(answer))
}

/// No row where the text names no period.
#[pg_extern(sql = "")]
fn named_period(
    query: &str,
    today: Date,
) -> TableIterator<'static, (name!(since, Option<Date>), name!(until, Option<Date>))> {
    let today = TimeDelta::try_days(today.to_pg_epoch_days().into())
        .and_then(|days| EPOCH.checked_add_signed(days));
    let period = today.and_then(|today| period::named_period(query, today));
    let rows = period.map(|period| (period.since.map(date), period.until.map(date)));
    TableIterator::new(rows)
}

/// Of PostgreSQL.
const EPOCH: NaiveDate = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();

fn date(day: NaiveDate) -> Date {
    let days = day.signed_duration_since(EPOCH).num_days();
    Date::saturating_from_raw(i32::try_from(days).unwrap_or(i32::MAX))
}

#[pg_extern(sql = "")]
fn rerank(
    query: Option<&str>,
    passages: Option<Vec<Option<String>>>,
    model: Option<String>,
    timeout_ms: Option<i32>,
) -> Result<Option<Vec<f32>>, ErrorReport> {
    let (Some(query), Some(passages)) = (query, passages) else {
        return Ok(None);
    };
    let model = ModelChoice::from(model.unwrap_or_default());
    let deadline = Deadline::from_argument(timeout_ms)?;
    let scores = reranking::scores(&model, query, not_null(passages)?, deadline)?;
    Ok(Some(scores))
}

#[pg_extern(sql = "")]
fn lexical_hits(
    terms: Vec<String>,
    prefixes: Vec<String>,
    filters: JsonB,
    among: Option<Vec<i64>>,
    hits_max: i32,
    also: Vec<i64>,
) -> Result<LexicalHits, ErrorReport> {
    let request = lexical::Request {
        terms,
        prefixes: prefixes
            .iter()
            .map(|prefix| prefix.to_lowercase())
            .collect(),
        parameters: Parameters {
            k1: config::bm25_k1(),
            b: config::bm25_b(),
        },
        condition: &Condition::new(filters)?,
        among: among.map(|mut among| {
            among.sort_unstable();
            among.dedup();
            among
        }),
        limit: usize::try_from(hits_max).unwrap_or(0),
        also,
    };
    let (hits, others) = lexical::hits(&request)?;
    let rows = |hits: Vec<Hit>, is_hit| {
        hits.into_iter()
            .map(move |Hit { document, score }| (document, score, is_hit))
    };
    Ok(TableIterator::new(
        rows(hits, true).chain(rows(others, false)),
    ))
}

type LexicalHits =
    TableIterator<'static, (name!(chunk_id, i64), name!(score, f32), name!(is_hit, bool))>;

/// Fewer are no limit: whether few chunks that somebody may not see have a word is not for him to know.
const HAVING_ALL_MIN: usize = 1000;

/// Chunks that have all terms; NULL when there are more than `chunks_max`.
#[pg_extern(sql = "")]
fn chunks_having_all(
    terms: Vec<String>,
    filters: JsonB,
    chunks_max: i32,
) -> Result<Option<Vec<i64>>, ErrorReport> {
    let chunks_max = usize::try_from(chunks_max).unwrap_or(0);
    let chunks_max = chunks_max.max(HAVING_ALL_MIN);
    Ok(lexical::having_all(
        &terms,
        &Condition::new(filters)?,
        chunks_max,
    )?)
}

#[pg_extern(sql = "")]
fn estimated_chunks(
    condition: &str,
) -> Result<TableIterator<'static, (name!(chunks, f64), name!(cost, f64))>, ErrorReport> {
    let estimate = estimate::estimated_chunks(condition)?;
    Ok(TableIterator::once(estimate))
}

#[pg_extern(sql = "")]
fn dense_hits(
    set_id: i64,
    embedding: Vec<f32>,
    filters: JsonB,
    among: Option<Vec<i64>>,
    hits_max: i32,
) -> Result<TableIterator<'static, (name!(chunk_id, i64), name!(similarity, f32))>, ErrorReport> {
    let hits = dense::hits(dense::Request {
        set_id,
        embedding,
        condition: &Condition::new(filters)?,
        among,
        limit: usize::try_from(hits_max).unwrap_or(0),
    })?;
    let rows = hits
        .into_iter()
        .map(|Hit { document, score }| (document, score));
    Ok(TableIterator::new(rows))
}

/// `vectors`: all end to end; numbers from 1 of `hits_max` of the candidates, in their new order.
#[pg_extern(sql = "")]
fn diverse_order(scores: Vec<f32>, vectors: Vec<f32>, diversity: f32, hits_max: i32) -> Vec<i32> {
    let dimensions = vectors.len().checked_div(scores.len()).unwrap_or(0).max(1);
    let mut vectors = vectors.chunks(dimensions);
    let candidates: Vec<Candidate> = scores
        .into_iter()
        .map(|score| Candidate {
            score,
            vector: vectors.next().unwrap_or_default().to_vec(),
        })
        .collect();
    let order = diversify(
        &candidates,
        diversity,
        usize::try_from(hits_max).unwrap_or(0),
    );
    order
        .into_iter()
        .map(|at| i32::try_from(at + 1).unwrap_or(i32::MAX))
        .collect()
}
