//! The worker as a PostgreSQL process: signals, connection, and transactions of its own.

use std::panic::{RefUnwindSafe, UnwindSafe};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, Spi};

use super::top_level;
use crate::error::Error;
use crate::pipeline::{DatabaseError, Lanes, Transactions, add_up_counts, is_schema_current};

/// Transactions of the worker: committed when the body returns, rolled back when PostgreSQL raises an error.
pub struct OwnTransactions(());

// PostgreSQL's own signal handlers, as plain C functions: pgrx's wrappers have another calling convention.
// SAFETY: signatures as in tcop/tcopprot.h and postmaster/interrupt.h.
#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    fn die(signal: std::ffi::c_int);
    fn SignalHandlerForConfigReload(signal: std::ffi::c_int);
}

/// Installs signal handlers and connects to `database` as `salesai_worker`.
pub fn prepare_process(database: &str) {
    // `die` sets the flags that CHECK_FOR_INTERRUPTS reads, so that a worker that waits for the sidecar
    // leaves at once; the default handler would end the process in the middle of anything.
    // SAFETY: before signals are unblocked, in a process of our own.
    #[allow(unsafe_code)]
    unsafe {
        #[cfg(not(feature = "pg18"))]
        use pg_sys::pqsignal;
        #[cfg(feature = "pg18")]
        use pg_sys::pqsignal_be as pqsignal;
        pqsignal(pg_sys::SIGTERM as i32, Some(die));
        pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    BackgroundWorker::connect_worker_to_spi(Some(database), None);
}

/// Reads the configuration files again after SIGHUP.
pub fn reload_settings() {
    // SAFETY: the flag is set by a signal handler of this thread; outside any transaction, as
    // ProcessConfigFile requires.
    #[allow(unsafe_code)]
    unsafe {
        let pending = std::ptr::addr_of_mut!(pg_sys::ConfigReloadPending);
        if pending.read_volatile() != 0 {
            pending.write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Ends the process; the postmaster starts it again after the restart pause.
// The bindings of PostgreSQL 16 know that proc_exit does not return, those of 18 do not.
#[allow(unreachable_code)]
pub fn leave() -> ! {
    // SAFETY: the regular way out of a background worker; exit code 1 asks for a restart.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::proc_exit(1);
    }
    unreachable!("proc_exit does not return")
}

impl OwnTransactions {
    /// Nothing is open yet.
    pub fn new() -> Self {
        Self(())
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

    /// Makes few rows of the many changes of the queue's counts.
    pub fn add_up_counts(&self) {
        let added_up = self.run(|| match is_schema_current()? {
            true => add_up_counts(),
            false => Ok(()),
        });
        if let Err(error) = added_up {
            warning!("could not add up the counts of jobs: {}", error.message);
        }
    }

    /// True when a command waits for this database to have no other connection.
    pub fn is_database_wanted(&self) -> bool {
        self.ask(
            "select exists (
                 select from pg_catalog.pg_locks l
                 join pg_catalog.pg_database d on d.oid = l.objid
                 where l.locktype = 'object' and l.classid = 'pg_catalog.pg_database'::regclass
                   and l.mode in ('AccessExclusiveLock', 'ExclusiveLock')
                   and d.datname = pg_catalog.current_database())",
        )
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
            lock_extension();
            // Rights end where the worker's role ends, not at the superuser that connected.
            if Spi::run("set local role salesai_worker").is_err() {
                warning!("could not become salesai_worker");
            }
            Ok(body())
        })
        .catch_others(|error| Err(describe(&error)))
        .execute();
        end(result.is_ok());
        result
    }

    fn build_index(&self, _: i64, steps: &[String]) -> Result<(), DatabaseError> {
        steps.iter().try_for_each(|step| {
            let result = PgTryBuilder::new(|| {
                top_level::run(step);
                Ok(())
            })
            .catch_others(|error| Err(describe(&error)))
            .execute();
            if result.is_err() {
                end(false);
            }
            result
        })
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

/// DROP EXTENSION locks the extension before its tables: who waits for it here holds nothing yet, so that the two
/// cannot wait for each other.
fn lock_extension() {
    // SAFETY: in a transaction; the lock ends with it.
    #[allow(unsafe_code)]
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_salesai".as_ptr(), true);
        if extension != pg_sys::InvalidOid {
            let share = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            pg_sys::LockDatabaseObject(pg_sys::ExtensionRelationId, extension, 0, share);
        }
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

fn describe(error: &CaughtError) -> DatabaseError {
    match error {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic {
            ereport: report, ..
        } => DatabaseError {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
        },
    }
}
