//! Why a question has no answer yet, or will have none.

use std::time::Duration;

use pgrx::PgSqlErrorCode;
use serde::Deserialize;

use super::DatabaseError;
use super::embedding;
use super::outcome::{Class, milliseconds};
use crate::error::{Error, Report};
use crate::sidecar::Deadline;

/// How long jobs and questions wait after the sidecar could not take them.
pub const SIDECAR_PAUSE: Duration = Duration::from_secs(1);

/// What PostgreSQL would have told who asked.
#[derive(Debug, Clone, Deserialize)]
pub struct Trouble {
    /// SQLSTATE.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    /// Not the sidecar is away, but the server of the model that was named.
    #[serde(skip)]
    pub is_of_its_model: bool,
}

impl Trouble {
    pub fn not_permitted(message: String) -> Self {
        Self {
            code: "42501".to_owned(),
            message,
            hint: Some("Submit it again as a role that may.".to_owned()),
            is_of_its_model: false,
        }
    }

    /// Nothing can be done for a column as things are.
    pub fn of_column(message: String) -> Self {
        Self {
            code: "55000".to_owned(),
            message,
            hint: Some("Mend it, or call salesai.column_task again; salesai.column_task_drop ends the task.".to_owned()),
            is_of_its_model: false,
        }
    }

    /// Having looked whether the sidecar is there, where something could not be reached.
    pub fn judged(mut self) -> Self {
        self.is_of_its_model = self.is_outage()
            && embedding::check_ready(Deadline::after(embedding::STATE_TIMEOUT)).is_ok();
        self
    }

    /// As for a job, but that somebody named the model, the account and the limits, and hears what is wrong with them.
    pub fn class(&self) -> Class {
        if self.is_of_its_model {
            return Class::RecordTemporary;
        }
        match (self.code.as_str(), self.code.get(..2)) {
            // The sidecar is away or busy, or a resource is.
            ("58000" | "53400", _) | (_, Some("53" | "57" | "58")) if !self.is_late() => {
                Class::PipelineTemporary
            }
            // Other weights, the key file: somebody has to do something for everybody.
            ("55000" | "F0000", _) => Class::PipelinePermanent,
            // Evidence that went away, a conflict, a model that was too slow, a mistake of ours.
            (_, Some("23" | "40" | "55" | "57" | "XX")) => Class::RecordTemporary,
            _ => Class::RecordPermanent,
        }
    }

    /// Where the class does not say it.
    pub fn retry_ms(&self) -> Option<i32> {
        self.is_away().then(|| milliseconds(SIDECAR_PAUSE))
    }

    /// Whether the sidecar could not take the question.
    pub fn is_away(&self) -> bool {
        matches!(self.code.as_str(), "58000" | "53400") && !self.is_of_its_model
    }

    /// Whether the sidecar, or the server of a model, could not be reached.
    pub fn is_outage(&self) -> bool {
        self.code == "58000"
    }

    /// Whether a model, or a statement, took longer than it may.
    pub fn is_late(&self) -> bool {
        self.code == "57014"
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let Report {
            code,
            message,
            hint,
            ..
        } = Report::from(error);
        Self {
            code: sqlstate(code),
            message,
            hint,
            is_of_its_model: false,
        }
    }
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        Self::from(Error::from(error))
    }
}

/// Five characters of six bits each, the first one lowest (`ERRCODE` in `utils/elog.h`).
fn sqlstate(code: PgSqlErrorCode) -> String {
    let code = code as u32;
    (0..5)
        .filter_map(|place| char::from_u32((code >> (6 * place) & 0x3f) + u32::from(b'0')))
        .collect()
}
