//! From rows that changed to the values of a derived column: some rows are leased in one short transaction, read in
//! another, and written in a third if they still say the same; models are asked between them, in none. All that touches
//! the table has the rights of its owner, whose code it may run.

use std::time::Duration;

use domain::operators::Operator;
use pgrx::warning;
use serde_json::{Value, json};

use super::Transactions;
use super::column_queue::{Leased, Row};
use super::on_behalf::{self, End, OnBehalf};
use super::outcome::milliseconds;
use super::trouble::{SIDECAR_PAUSE, Trouble};
use crate::config;
use crate::error::Error;
use crate::operators::{Application, Applied, applied};
use crate::rights::AskerRights;
use crate::sidecar::Deadline;

/// When rows that somebody was changing are looked at again.
const CONFLICT_PAUSE_MS: i32 = 1_000;
/// When a table that somebody has locked is.
const LOCK_PAUSE_MS: i32 = 5_000;

/// How a round ended.
pub enum Filled {
    /// Nothing is due.
    Idle,
    /// So many rows have their value now.
    Rows(i32),
    /// The task is blocked, or belongs to somebody else now; how long to rest.
    Failed(Duration),
}

/// Fills the next rows that are due, `rows_max` at most; a model is given `limit` for them.
pub fn fill_next<T: Transactions + Clone + 'static>(
    transactions: &T,
    rows_max: i32,
    limit: Duration,
) -> Filled {
    let lease_ms = milliseconds(config::job_timeout()).saturating_mul(2);
    let leased = match transactions.run(|| Leased::claim(rows_max, lease_ms)) {
        Ok(Ok(Some(leased))) => leased,
        Ok(Ok(None)) => return Filled::Idle,
        Ok(Err(error)) => return not_leased(&error.to_string()),
        Err(error) => return not_leased(&error.message),
    };
    let work = Work {
        transactions,
        leased: &leased,
        lease_ms,
        limit,
    };
    match work.fill() {
        Ok(filled) => filled,
        Err(End::Lost) => Filled::Failed(Duration::ZERO),
        Err(End::Troubled(trouble)) => {
            let trouble = trouble.judged();
            let retry_ms = match trouble.code.as_str() {
                "55P03" | "40P01" => Some(LOCK_PAUSE_MS),
                _ => trouble.retry_ms(),
            };
            let noted = transactions.run(|| leased.block(&trouble, retry_ms));
            if !matches!(noted, Ok(Ok(()))) {
                warning!("column task {} keeps its lease", leased.task_id());
            }
            match trouble.is_away() {
                true => Filled::Failed(SIDECAR_PAUSE),
                false => Filled::Failed(Duration::ZERO),
            }
        }
    }
}

fn not_leased(message: &str) -> Filled {
    warning!("could not lease rows of a column task: {message}");
    Filled::Failed(SIDECAR_PAUSE)
}

struct Work<'a, T> {
    transactions: &'a T,
    leased: &'a Leased,
    lease_ms: i32,
    limit: Duration,
}

impl<T: Transactions + Clone + 'static> Work<'_, T> {
    fn fill(&self) -> Result<Filled, End> {
        let leased = self.leased;
        if let Some(problem) = &leased.problem {
            return Err(End::Troubled(Trouble::of_column(problem.clone())));
        }
        let is_listed = leased.is_listing && self.list()?;
        if leased.is_empty() {
            return Ok(match is_listed {
                true => Filled::Rows(0),
                // Another process is at it.
                false => Filled::Idle,
            });
        }
        let rows = self.run(|| {
            let _rights = AskerRights::confined(&leased.role);
            Ok(leased.documents()??)
        })?;
        let applied = self.ask(&rows)?;
        Ok(Filled::Rows(self.keep(&rows, &applied)?))
    }

    /// Finds more rows; false when another process does.
    fn list(&self) -> Result<bool, End> {
        self.run(|| {
            let _rights = AskerRights::confined(&self.leased.role);
            Ok(self.leased.list()??)
        })
    }

    /// One outcome for each row; None where there is nothing to ask.
    fn ask(&self, rows: &[Row]) -> Result<Applied, End> {
        let leased = self.leased;
        let operator = Operator::new(&leased.operator, &leased.arguments)
            .map_err(|error| Error::argument(error.to_string()))?;
        let application = Application::parse(leased.options.clone())?;
        let documents: Vec<Option<String>> = rows
            .iter()
            .map(|row| row.document.clone().filter(|_| !row.is_known))
            .collect();
        let on_behalf = OnBehalf {
            transactions: self.transactions.clone(),
            lease: leased.clone(),
            lease_ms: self.lease_ms,
            role: leased.role.clone(),
        };
        on_behalf.between(|| {
            let deadline = Deadline::after(self.limit);
            applied(
                &leased.operator,
                &operator,
                &documents,
                &application,
                deadline,
            )
        })
    }

    /// Writes values and notes failures; how many rows have their value now.
    fn keep(&self, rows: &[Row], applied: &Applied) -> Result<i32, End> {
        let Settled {
            values,
            failures,
            gone,
        } = Settled::of(rows, applied);
        let leased = self.leased;
        self.run(|| {
            let rights = AskerRights::confined(&leased.role);
            let written = leased.write(values, applied.maker.as_ref())?;
            drop(rights);
            let written = written?;
            for (id, trouble) in &failures {
                leased.fail(*id, trouble)?;
            }
            for refused in &written.errors {
                leased.fail(refused.id, &refused.error)?;
            }
            leased.forget(gone)?;
            leased.release(CONFLICT_PAUSE_MS)?;
            Ok(written.written)
        })
    }

    fn run<R>(&self, body: impl FnOnce() -> Result<R, End>) -> Result<R, End> {
        on_behalf::run(self.transactions, body)?
    }
}

/// What becomes of rows; those that are not here are asked again.
#[derive(Default)]
struct Settled {
    values: Vec<Value>,
    failures: Vec<(i64, Trouble)>,
    gone: Vec<i64>,
}

impl Settled {
    fn of(rows: &[Row], applied: &Applied) -> Self {
        let has_value = applied.outcomes.iter().flatten().any(Result::is_ok);
        let mut settled = Self::default();
        for (row, outcome) in rows.iter().zip(&applied.outcomes) {
            match (&row.error, outcome) {
                _ if row.is_gone => settled.gone.push(row.id),
                (Some(error), _) => settled.failures.push((row.id, error.clone())),
                (None, Some(Err(error))) => {
                    let trouble = Trouble::from(Error::from(error.clone()));
                    // The time was up before it was its turn.
                    if !(trouble.is_late() && has_value) {
                        settled.failures.push((row.id, trouble));
                    }
                }
                (None, outcome) => {
                    let value = outcome.as_ref().and_then(|outcome| outcome.as_ref().ok());
                    settled.values.push(json!({
                        "id": row.id, "key": row.key, "sha256": row.sha256, "value": value, "is_known": row.is_known,
                    }));
                }
            }
        }
        settled
    }
}
