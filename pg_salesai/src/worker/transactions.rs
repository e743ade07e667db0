//! Transactions of a worker's own.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};

use pgrx::prelude::*;
use pgrx::{PgTryBuilder, Spi};

use super::{posts, process, top_level};
use crate::errand::Errand;
use crate::error::Error;
use crate::pipeline::{
    DatabaseError, Lanes, Transactions, has_due_columns, has_due_requests, is_schema_current,
    tidy_up,
};
use crate::search::{coding, merging};

/// Transactions of the worker: committed when the body returns, rolled back when PostgreSQL raises an error.
#[derive(Clone)]
pub struct OwnTransactions {
    database: String,
}

impl OwnTransactions {
    /// Nothing is open yet. `database`: the one that this process is connected to.
    pub fn new(database: String) -> Self {
        Self { database }
    }

    /// Cancels the build of an index here, for a command that waits for it.
    fn cancel_index_build(&self) {
        posts::cancel_index_build(&self.database);
    }

    /// True when the extension is installed here and a job of these lanes is due.
    pub fn has_due_jobs(&self, lanes: Lanes) -> bool {
        const IS_INSTALLED: &str =
            "select exists (select from pg_catalog.pg_extension where extname = 'pg_salesai')
                 and to_regclass('salesai.job') is not null";
        if !self.ask(IS_INSTALLED) {
            return false;
        }
        let answer = self.run(|| {
            if is_schema_current()? {
                let question = "select salesai.has_due_jobs($1)";
                return Ok(Spi::get_one_with_args(question, &[lanes.names().into()])?);
            }
            Ok(Spi::get_one::<bool>(
                "select exists (
                     select from salesai.job
                     where state = 'running' or (state = 'pending' and not_before <= clock_timestamp()))",
            )?)
        });
        matches!(answer, Ok(Ok::<_, Error>(Some(true))))
    }

    /// True when a question waits here.
    pub fn has_due_requests(&self) -> bool {
        matches!(self.run(has_due_requests), Ok(Ok(true)))
    }

    /// True when something can be done for a column here.
    pub fn has_due_columns(&self) -> bool {
        matches!(self.run(has_due_columns), Ok(Ok(true)))
    }

    /// Makes few rows of the many changes of the queue's counts, and drops old results.
    pub fn tidy_up(&self) {
        let tidied = self.run(|| match is_schema_current()? {
            true => tidy_up(),
            false => Ok(()),
        });
        if let Err(error) = tidied {
            warning!(
                "could not add up the counts of jobs and drop old results: {}",
                error.message
            );
        }
    }

    /// Brings the lexical index on: new chunks become a segment, or, as maintenance, several segments one. False when
    /// there was nothing to do.
    pub fn merge_lexical_index(&self, lanes: Lanes) -> bool {
        match lanes {
            Lanes::Maintenance => self.maintain("the lexical index", merging::merge_segments),
            _ => self.merge_new_chunks(merging::CHUNKS_MIN),
        }
    }

    fn merge_new_chunks(&self, chunks_min: i64) -> bool {
        self.maintain("the lexical index", || merging::merge_delta(chunks_min))
    }

    /// Codes new vectors, or, as maintenance, all vectors of a set where many codes are stale. False when there was
    /// nothing to do.
    pub fn code_embeddings(&self, lanes: Lanes) -> bool {
        self.maintain("the codes of embeddings", || match lanes {
            Lanes::Maintenance => coding::renew_stale(),
            _ => coding::merge_delta(coding::VECTORS_MIN),
        })
    }

    fn maintain(
        &self,
        what: &str,
        step: impl FnOnce() -> Result<bool, Error> + UnwindSafe + RefUnwindSafe,
    ) -> bool {
        let step = || match is_schema_current()? {
            true => step(),
            false => Ok(false),
        };
        // An error takes all of it back.
        let done = self.run(|| step().unwrap_or_else(|error: Error| error!("{error}")));
        if let Err(error) = &done {
            warning!("could not bring {what} on: {}", error.message);
        }
        matches!(done, Ok(true))
    }

    /// Ends the process where a command waits for this database to have no other connection.
    pub fn make_way(&self) {
        if self.is_database_wanted() {
            log!("pg_salesai worker leaves its database to a command that needs it");
            self.cancel_index_build();
            process::leave();
        }
    }

    /// DROP EXTENSION locks the extension before its tables: who waits for it here holds nothing yet, so that the two
    /// cannot wait for each other; and a build of an index, which may hold a table for hours, makes room.
    fn lock_extension(&self) {
        // SAFETY: in a transaction; the lock ends with it.
        #[allow(unsafe_code)]
        unsafe {
            let class = pg_sys::ExtensionRelationId;
            let extension = pg_sys::get_extension_oid(c"pg_salesai".as_ptr(), true);
            let share = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            if extension != pg_sys::InvalidOid
                && !pg_sys::ConditionalLockDatabaseObject(class, extension, 0, share)
            {
                self.cancel_index_build();
                pg_sys::LockDatabaseObject(class, extension, 0, share);
            }
        }
    }

    fn ask(&self, question: &'static str) -> bool {
        let answer = self.run(|| Spi::get_one::<bool>(question));
        matches!(answer, Ok(Ok(Some(true))))
    }
}

impl Transactions for OwnTransactions {
    fn run<R>(
        &self,
        body: impl FnOnce() -> R + UnwindSafe + RefUnwindSafe,
    ) -> Result<R, DatabaseError> {
        begin();
        let result = PgTryBuilder::new(|| {
            self.lock_extension();
            // Rights end where the worker's role ends, not at the superuser that connected.
            if Spi::run("set local role salesai_worker").is_err() {
                warning!("could not become salesai_worker");
            }
            Ok(body())
        })
        .catch_others(|error| Err(DatabaseError::from(&error)))
        .execute();
        end(result.is_ok());
        result
    }

    fn build_index(&self, _: i64, steps: &[String]) -> Result<(), DatabaseError> {
        posts::set_building(true);
        let built = steps.iter().try_for_each(|step| {
            let result = PgTryBuilder::new(|| {
                top_level::run(step);
                Ok(())
            })
            .catch_others(|error| Err(DatabaseError::from(&error)))
            .execute();
            if result.is_err() {
                end(false);
            }
            result
        });
        posts::set_building(false);
        built
    }

    fn index_stored(&self) {
        self.merge_new_chunks(merging::CHUNKS_MIN_AT_WORK);
        self.code_embeddings(Lanes::Models);
    }

    /// DROP DATABASE and ALTER DATABASE ... RENAME wait for others to leave for at most 5 s.
    fn is_database_wanted(&self) -> bool {
        self.ask(
            "select exists (
                 select from pg_catalog.pg_locks l
                 join pg_catalog.pg_database d on d.oid = l.objid
                 where l.locktype = 'object' and l.classid = 'pg_catalog.pg_database'::regclass
                   and l.mode in ('AccessExclusiveLock', 'ExclusiveLock')
                   and d.datname = pg_catalog.current_database())",
        )
    }
}

fn begin() {
    // SAFETY: no transaction is open; `end` closes this one on every path.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        // Whatever the database's default is: after a lock, what others wrote has to be seen.
        pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::pgstat_report_activity(
            pg_sys::BackendState::STATE_RUNNING,
            c"pg_salesai worker: queue".as_ptr(),
        );
    }
}

fn end(commit: bool) {
    // SAFETY: closes what `begin` opened; after an error the abort also releases snapshots and SPI.
    #[allow(unsafe_code)]
    unsafe {
        if commit {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        } else {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(true);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
}

/// What a worker does for nobody in particular: a command that needs the database ends it.
impl Errand for OwnTransactions {
    fn transact(&self, body: &mut dyn FnMut()) -> Result<(), Error> {
        // As in `on_behalf`.
        Ok(self.run(AssertUnwindSafe(body))?)
    }

    fn look(&self) -> Result<(), Error> {
        match self.is_database_wanted() {
            true => Err(Error::Withdrawn),
            false => Ok(()),
        }
    }
}
