//! What becomes of a job, and how it is written down.

use std::time::Duration;

use pgrx::{PgSqlErrorCode, warning};
use proto::client::ClientError;

use super::indexing::{Index, SetVectors};
use super::job_queue::{self, Job, RangeChunk};
use super::{DatabaseError, Transactions, embedding};
use crate::config;
use crate::error::Error;

/// How long a job waits after the sidecar could not take it, where the sidecar does not say.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Shortest and longest wait that the sidecar may ask for.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long it waits after others changed what it was about to write.
const CONFLICT_PAUSE_MS: i32 = 100;
/// How long it waits after everybody's failure in a schema that has no class for it.
const OLD_SCHEMA_PAUSE_MS: i32 = 10_000;
/// How long an index waits for the last chunks of its set.
const FILLING_PAUSE_MS: i32 = 1_000;

/// What became of a job, before it is written down.
pub enum Outcome {
    Indexed(Box<Index>),
    /// For a set that is being built.
    RangeEmbedded(Vec<RangeChunk>, Box<SetVectors>),
    IndexBuilt,
    /// The set of an index is not filled yet.
    NotFilled,
    /// Overload, or a sidecar that is away: no attempt is consumed. How long to wait.
    Postponed(Duration),
    /// The sidecar died or took too long while it worked on this, which may be this one's fault.
    Lost,
    Failed(Failure),
}

/// As `salesai.fail_job` records it.
pub struct Failure {
    pub class: Class,
    pub step: &'static str,
    /// In words, none of the customer's.
    pub message: String,
}

/// Whose fault it is, and whether it may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    RecordTemporary,
    RecordPermanent,
    PipelineTemporary,
    PipelinePermanent,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::RecordTemporary => "record_temporary",
            Self::RecordPermanent => "record_permanent",
            Self::PipelineTemporary => "pipeline_temporary",
            Self::PipelinePermanent => "pipeline_permanent",
        }
    }
}

impl Outcome {
    pub fn failed(class: Class, step: &'static str, message: impl Into<String>) -> Self {
        Self::Failed(Failure {
            class,
            step,
            message: message.into(),
        })
    }

    /// What a failed call to the sidecar means for a job that gave it so much time.
    pub fn of_call(step: &'static str, error: &Error, patience: Duration) -> Self {
        let class = match error {
            Error::Sidecar(ClientError::Overloaded {
                retry_after_ms: Some(ms),
            }) => {
                let pause = Duration::from_millis(*ms);
                return Self::Postponed(pause.clamp(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX));
            }
            Error::Sidecar(ClientError::Disconnected { .. }) => return Self::Lost,
            // One that stands still, or is busy with others, does not answer anything else either.
            Error::Sidecar(ClientError::DeadlineExceeded)
                if patience >= config::job_timeout() && embedding::is_at_work() =>
            {
                return Self::Lost;
            }
            Error::Sidecar(
                ClientError::Unavailable { .. }
                | ClientError::DeadlineExceeded
                | ClientError::Overloaded { .. },
            )
            // The worker has to leave.
            | Error::Withdrawn => return Self::Postponed(RETRY_PAUSE),
            Error::Sidecar(ClientError::NotFound(_)) | Error::NoModel { .. } => {
                Class::PipelinePermanent
            }
            Error::Runtime(_) => Class::PipelineTemporary,
            _ => Class::RecordTemporary,
        };
        Self::failed(class, step, error.to_string())
    }

    /// Whether the same call may do for a part of what it was asked: then the culprit is looked for.
    pub fn may_be_one_texts_fault(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.class == Class::RecordTemporary)
    }
}

/// Runs one of the queue's questions; a failure is the job's outcome.
pub fn load<T>(
    transactions: &impl Transactions,
    body: impl FnOnce() -> Result<T, Error> + std::panic::UnwindSafe + std::panic::RefUnwindSafe,
) -> Result<T, Outcome> {
    match transactions.run(body) {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(error)) => Err(Outcome::failed(
            Class::RecordTemporary,
            "load",
            error.to_string(),
        )),
        Err(error) => Err(Outcome::failed(
            of_database(error.code),
            "load",
            error.message,
        )),
    }
}

/// Writes the outcome down; true when the job is done by this lease.
pub fn settle(transactions: &impl Transactions, job: &Job, outcome: &Outcome) -> bool {
    let written = transactions.run(|| match outcome {
        Outcome::Indexed(index) => job_queue::finish(job, index),
        Outcome::RangeEmbedded(chunks, vectors) => job_queue::finish_range(job, chunks, vectors),
        Outcome::IndexBuilt => job_queue::finish_index_build(job),
        Outcome::NotFilled => job_queue::release(job, FILLING_PAUSE_MS).map(|()| false),
        Outcome::Postponed(pause) => job_queue::release(job, milliseconds(*pause)).map(|()| false),
        Outcome::Lost => job_queue::lose(job, milliseconds(RETRY_PAUSE)).map(|()| false),
        Outcome::Failed(failure) => fail(job, failure).map(|()| false),
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

/// Writing failed and was rolled back.
fn settle_database_error(transactions: &impl Transactions, job: &Job, error: &DatabaseError) {
    let settled = if error.code == PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE {
        transactions.run(|| job_queue::release(job, CONFLICT_PAUSE_MS))
    } else {
        warning!(
            "could not write the outcome of job {}: {}",
            job.id,
            error.message
        );
        let class = of_database(error.code);
        let message = match class {
            // The message may quote the data.
            Class::RecordPermanent => "the result could not be stored".to_owned(),
            _ => error.message.clone(),
        };
        let failure = Failure {
            class,
            step: "store",
            message,
        };
        transactions.run(|| fail(job, &failure))
    };
    if !matches!(settled, Ok(Ok(()))) {
        warning!("job {} keeps its lease until it runs out", job.id);
    }
}

fn fail(job: &Job, failure: &Failure) -> Result<(), Error> {
    let is_own_fault = matches!(
        failure.class,
        Class::RecordTemporary | Class::RecordPermanent
    );
    // Before 0.3.0 whatever failed used up the job.
    if !is_own_fault && !job_queue::is_schema_current()? {
        return job_queue::release(job, OLD_SCHEMA_PAUSE_MS);
    }
    job_queue::fail(job, failure.class.name(), failure.step, &failure.message)
}

/// A fault of the data is the record's; one of the server (a full disk, say) is everybody's.
pub fn of_database(code: PgSqlErrorCode) -> Class {
    match code {
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED
        | PgSqlErrorCode::ERRCODE_DATA_EXCEPTION
        | PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER
        | PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE
        | PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION
        | PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION
        | PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
        // A damaged original.
        | PgSqlErrorCode::ERRCODE_DATA_CORRUPTED => Class::RecordPermanent,
        // A mistake of ours, which this record brings out.
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR => Class::RecordTemporary,
        // Other weights, another schema: somebody has to change something.
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
        // The master key: nobody's original can be read.
        | PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR
        | PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
        | PgSqlErrorCode::ERRCODE_SYNTAX_ERROR
        | PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN
        | PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE
        | PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION => Class::PipelinePermanent,
        _ => Class::PipelineTemporary,
    }
}

pub fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
