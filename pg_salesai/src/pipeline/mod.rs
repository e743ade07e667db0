//! From a leased job to chunks and embeddings, from a question that waits to its answer, and from rows that changed to the
//! values of a column. Database work comes in
//! short transactions; between them, while a model runs, nothing is open.

mod batch;
mod chunks;
mod column_queue;
mod columns;
pub mod embedding;
mod embedding_sets;
mod indexing;
mod job_queue;
mod on_behalf;
mod outcome;
mod pieces;
mod reading;
mod request_queue;
mod requests;
mod trouble;

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, Spi};
use proto::model::Priority;

use crate::config;
use crate::error::Error;
use crate::search::{coding, merging};
use crate::sidecar::Deadline;
use crate::subtransaction::Subtransaction;
pub use batch::run_batch;
pub use column_queue::has_due_columns;
pub use columns::{Filled, fill_next};
pub use job_queue::{Lanes, is_schema_current, tidy_up};
pub use request_queue::has_due_requests;
pub use requests::{Round, answer_next, note_outage};
pub use trouble::SIDECAR_PAUSE;

/// Where the database work of a job runs.
pub trait Transactions {
    /// Runs `body` in a transaction; an error inside has rolled it back.
    fn run<R>(
        &self,
        body: impl FnOnce() -> R + UnwindSafe + RefUnwindSafe,
    ) -> Result<R, DatabaseError>;

    /// Builds the index of an embedding set. `steps` do it without blocking anybody, where each can be run outside
    /// a transaction.
    fn build_index(&self, set_id: i64, steps: &[String]) -> Result<(), DatabaseError>;

    /// Makes what was stored part of search's indexes, where that can be done between two groups of a batch.
    fn index_stored(&self) {}

    /// Whether a command waits for the database to be free; asked in the middle of long work.
    fn is_database_wanted(&self) -> bool {
        false
    }
}

/// An error that PostgreSQL raised inside a transaction of the worker.
#[derive(Debug)]
pub struct DatabaseError {
    pub code: PgSqlErrorCode,
    pub message: String,
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        Self::Database {
            code: error.code,
            message: error.message,
        }
    }
}

impl From<&CaughtError> for DatabaseError {
    fn from(error: &CaughtError) -> Self {
        match error {
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic {
                ereport: report, ..
            } => Self {
                code: report.sql_error_code(),
                message: report.message().to_owned(),
            },
        }
    }
}

/// All work in the transaction of the statement that asks, each step in a subtransaction: a record that PostgreSQL
/// refuses is noted and keeps no other. Who cancels the statement ends it.
#[derive(Clone)]
pub struct CallersTransaction;

impl Transactions for CallersTransaction {
    fn run<R>(
        &self,
        body: impl FnOnce() -> R + UnwindSafe + RefUnwindSafe,
    ) -> Result<R, DatabaseError> {
        let step = Subtransaction::begin();
        let result = PgTryBuilder::new(|| Ok(body()))
            .catch_others(|error| Err(Box::new(error)))
            .execute();
        match result {
            Ok(value) => {
                step.keep();
                Ok(value)
            }
            Err(error) => {
                drop(step);
                match DatabaseError::from(&*error) {
                    DatabaseError {
                        code:
                            PgSqlErrorCode::ERRCODE_QUERY_CANCELED
                            | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
                        ..
                    } => error.rethrow(),
                    error => Err(error),
                }
            }
        }
    }

    fn build_index(&self, set_id: i64, _: &[String]) -> Result<(), DatabaseError> {
        Spi::run_with_args("select salesai.build_embedding_index($1)", &[set_id.into()]).map_err(
            |error| DatabaseError {
                code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                message: error.to_string(),
            },
        )
    }
}

/// Drains up to `max_jobs` jobs in the caller's session, then answers questions that wait, then fills columns.
pub fn process_here(
    transactions: &CallersTransaction,
    max_jobs: i32,
    timeout_ms: Option<i32>,
) -> Result<i32, Error> {
    let mut finished = 0;
    while finished < max_jobs {
        let limit = config::worker_batch_size().min(max_jobs - finished);
        let batch = run_batch(
            transactions,
            limit,
            Lanes::All,
            Priority::Interactive,
            &|| {
                // Checked by the caller already.
                Deadline::from_argument(timeout_ms)
                    .unwrap_or_else(|_| Deadline::after(config::timeout()))
            },
        );
        finished += batch.finished;
        if batch.pause.is_some() {
            // What was done stays done; with nothing done the caller wants to know why.
            if finished == 0 {
                embedding::check_ready(Deadline::after(config::timeout()))?;
            }
            break;
        }
        if batch.claimed == 0 {
            break;
        }
    }
    let limit = timeout_ms
        .and_then(|ms| u64::try_from(ms).ok())
        .map_or(config::job_timeout(), Duration::from_millis);
    while finished < max_jobs && has_due_requests()? {
        match answer_next(transactions, limit) {
            Round::Answered => finished += 1,
            Round::Failed(Duration::ZERO) => {}
            Round::Idle | Round::Failed(_) => break,
        }
    }
    while finished < max_jobs && has_due_columns()? {
        let rows_max = config::worker_batch_size().min(max_jobs - finished);
        match fill_next(transactions, rows_max, limit) {
            Filled::Rows(rows) => finished += rows,
            Filled::Failed(Duration::ZERO) => {}
            Filled::Idle | Filled::Failed(_) => break,
        }
    }
    // Where no worker runs, nobody else does it.
    if job_queue::is_schema_current()? {
        tidy_up()?;
        while merging::merge_delta(merging::CHUNKS_MIN)? {}
        while merging::merge_segments()? {}
        while coding::merge_delta(coding::VECTORS_MIN)? {}
        while coding::renew_stale()? {}
    }
    Ok(finished)
}
