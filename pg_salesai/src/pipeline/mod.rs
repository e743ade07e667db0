//! From a leased job to chunks and embeddings. Database work comes in short transactions; between them,
//! while a model runs, nothing is open.

pub mod embedding;
mod indexing;
mod job_queue;
mod reading;

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use pgrx::{PgSqlErrorCode, warning};
use proto::client::ClientError;
use proto::model::Priority;

use crate::config;
use crate::error::Error;
use crate::sidecar::Deadline;
use job_queue::Job;
use reading::Reading;

/// How long a job waits after the sidecar could not take it, where the sidecar does not say.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Shortest and longest wait that the sidecar may ask for.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long it waits after the database could not store its result (a full disk, other weights).
const STORE_RETRY_MS: i32 = 10_000;

/// Where the database work of a job runs.
pub trait Transactions {
    /// Runs `body` in a transaction; an error inside has rolled it back.
    fn run<R>(
        &self,
        body: impl FnOnce() -> R + UnwindSafe + RefUnwindSafe,
    ) -> Result<R, DatabaseError>;
}

/// An error that PostgreSQL raised inside a transaction of the worker.
#[derive(Debug)]
pub struct DatabaseError {
    pub code: PgSqlErrorCode,
    pub message: String,
}

/// All work in the transaction of the statement that asks; an error ends that statement.
pub struct CallersTransaction;

impl Transactions for CallersTransaction {
    fn run<R>(
        &self,
        body: impl FnOnce() -> R + UnwindSafe + RefUnwindSafe,
    ) -> Result<R, DatabaseError> {
        Ok(body())
    }
}

/// How a batch ended.
pub struct Batch {
    pub claimed: usize,
    pub finished: i32,
    /// The sidecar could not take work; the jobs went back to the queue and wait for so long.
    pub pause: Option<Duration>,
}

/// Drains up to `max_jobs` jobs in the caller's session.
pub fn process_here(
    transactions: &CallersTransaction,
    max_jobs: i32,
    timeout_ms: Option<i32>,
) -> Result<i32, Error> {
    let mut finished = 0;
    while finished < max_jobs {
        let limit = config::worker_batch_size().min(max_jobs - finished);
        let batch = run_batch(transactions, limit, Priority::Interactive, &|| {
            // Checked by the caller already.
            Deadline::from_argument(timeout_ms)
                .unwrap_or_else(|_| Deadline::after(config::timeout()))
        });
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
    Ok(finished)
}

/// Leases up to `limit` jobs and works on them one by one.
pub fn run_batch(
    transactions: &impl Transactions,
    limit: i32,
    priority: Priority,
    deadline: &impl Fn() -> Deadline,
) -> Batch {
    let lease_ms = lease_ms(limit);
    let jobs = match transactions.run(|| job_queue::claim(limit, lease_ms)) {
        Ok(Ok(jobs)) => jobs,
        Ok(Err(error)) => return no_jobs(&error.to_string()),
        Err(error) => return no_jobs(&error.message),
    };
    let mut batch = Batch {
        claimed: jobs.len(),
        finished: 0,
        pause: None,
    };
    for job in &jobs {
        if let Some(pause) = batch.pause {
            settle(transactions, job, &Outcome::Postponed(pause));
            continue;
        }
        let outcome = run_job(transactions, job, priority, deadline);
        if let Outcome::Postponed(pause) = outcome {
            batch.pause = Some(pause);
        }
        batch.finished += i32::from(settle(transactions, job, &outcome));
    }
    batch
}

fn no_jobs(message: &str) -> Batch {
    warning!("could not lease jobs: {message}");
    Batch {
        claimed: 0,
        finished: 0,
        pause: None,
    }
}

/// What became of a job, before it is written down.
enum Outcome {
    Indexed(indexing::Index),
    /// Overload, or a sidecar that is away: no attempt is consumed. How long to wait.
    Postponed(Duration),
    Failed {
        class: &'static str,
        step: &'static str,
        message: String,
    },
}

fn run_job(
    transactions: &impl Transactions,
    job: &Job,
    priority: Priority,
    deadline: &impl Fn() -> Deadline,
) -> Outcome {
    if let Err(outcome) = read_document(transactions, job, deadline) {
        return outcome;
    }
    let segments = match load(transactions, || job_queue::segments(job)) {
        Ok(segments) => segments,
        Err(outcome) => return outcome,
    };
    match indexing::index(&segments, priority, deadline) {
        Ok(index) => Outcome::Indexed(index),
        Err(error @ Error::Embedding { .. }) => {
            failed("record_permanent", "embed", error.to_string())
        }
        Err(error) => postponed_or_failed("embed", &error),
    }
}

/// Reads the document of a job that has one, and stores its segments: a step of its own, which a job that fails
/// later need not take again.
fn read_document(
    transactions: &impl Transactions,
    job: &Job,
    deadline: &impl Fn() -> Deadline,
) -> Result<(), Outcome> {
    let Some(document) = load(transactions, || job_queue::unread_document(job))? else {
        return Ok(());
    };
    let text = match reading::read(document, deadline()) {
        Ok(Reading::Text(text)) => text,
        Ok(Reading::Problem(detail)) => return Err(failed("record_permanent", "read", detail)),
        // Its own slowness, as far as anybody can tell: waiting for it again and again would hold up all others.
        Err(error @ Error::Sidecar(ClientError::DeadlineExceeded)) => {
            return Err(failed("record_temporary", "read", error.to_string()));
        }
        Err(error) => return Err(postponed_or_failed("read", &error)),
    };
    // A lost lease shows again when the job is finished.
    match transactions.run(|| job_queue::store_document(job, &text)) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed("record_temporary", "read", error.to_string())),
        Err(error) if is_data_fault(error.code) => {
            let message = "its text could not be stored".to_owned();
            Err(failed("record_permanent", "read", message))
        }
        Err(error) => Err(failed("record_temporary", "read", error.message)),
    }
}

fn load<T>(
    transactions: &impl Transactions,
    body: impl FnOnce() -> Result<T, Error> + UnwindSafe + RefUnwindSafe,
) -> Result<T, Outcome> {
    match transactions.run(body) {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(error)) => Err(failed("record_temporary", "load", error.to_string())),
        Err(error) => Err(failed("record_temporary", "load", error.message)),
    }
}

/// What a failed call to the sidecar means for the job.
fn postponed_or_failed(step: &'static str, error: &Error) -> Outcome {
    match error {
        Error::Sidecar(ClientError::Overloaded {
            retry_after_ms: Some(ms),
        }) => {
            Outcome::Postponed(Duration::from_millis(*ms).clamp(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX))
        }
        Error::Sidecar(
            ClientError::Unavailable { .. }
            | ClientError::DeadlineExceeded
            | ClientError::Overloaded { .. },
        ) => Outcome::Postponed(RETRY_PAUSE),
        error => failed("record_temporary", step, error.to_string()),
    }
}

fn failed(class: &'static str, step: &'static str, message: String) -> Outcome {
    Outcome::Failed {
        class,
        step,
        message,
    }
}

/// Writes the outcome down; true when the job is done by this lease.
fn settle(transactions: &impl Transactions, job: &Job, outcome: &Outcome) -> bool {
    let written = transactions.run(|| match outcome {
        Outcome::Indexed(index) => job_queue::finish(job, index),
        Outcome::Postponed(pause) => job_queue::release(job, milliseconds(*pause)).map(|()| false),
        Outcome::Failed {
            class,
            step,
            message,
        } => job_queue::fail(job, class, step, message).map(|()| false),
    });
    match written {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            warning!("could not write the outcome of job {}: {error}", job.id);
            false
        }
        Err(error) => {
            settle_database_error(transactions, job, &error);
            false
        }
    }
}

/// Writing failed and was rolled back. A fault of the data fails the job; a fault of the server (a full
/// disk, say) leaves it in the queue.
fn settle_database_error(transactions: &impl Transactions, job: &Job, error: &DatabaseError) {
    warning!(
        "could not write the outcome of job {}: {}",
        job.id,
        error.message
    );
    let settled = transactions.run(|| {
        if is_data_fault(error.code) {
            job_queue::fail(
                job,
                "record_permanent",
                "store",
                "the result could not be stored",
            )
        } else {
            job_queue::release(job, STORE_RETRY_MS)
        }
    });
    if !matches!(settled, Ok(Ok(()))) {
        warning!("job {} keeps its lease until it runs out", job.id);
    }
}

fn is_data_fault(code: PgSqlErrorCode) -> bool {
    matches!(
        code,
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            | PgSqlErrorCode::ERRCODE_DATA_EXCEPTION
            | PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER
            | PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE
            | PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION
            | PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION
            | PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
    )
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A lease outlasts two model calls for each job of its batch.
fn lease_ms(limit: i32) -> i32 {
    let call_ms = milliseconds(config::job_timeout());
    call_ms.saturating_mul(2).saturating_mul(limit)
}
