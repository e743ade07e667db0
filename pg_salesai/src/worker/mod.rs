//! The background worker: one per database named in `salesai.worker_databases`. It leases jobs, calls the
//! sidecar with no transaction open, and writes each result in one short transaction.

mod transactions;
mod wakeup;

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, check_for_interrupts};
use proto::model::Priority;

use crate::config;
use crate::pipeline::{self, embedding};
use crate::sidecar::Deadline;
use transactions::OwnTransactions;
pub use wakeup::wake_at_commit;

/// Pause before a crashed worker, or one whose database is missing, is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(10);
/// Pause while the sidecar is away.
const SIDECAR_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for an answer about the sidecar's state.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Registers the workers when the postmaster loads the library; does nothing in a backend.
pub fn register() {
    // SAFETY: a flag that only the postmaster's start-up sets.
    #[allow(unsafe_code)]
    let is_preloading = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    if !is_preloading {
        return;
    }
    wakeup::register();
    let databases = config::worker_databases();
    if databases.len() > wakeup::SLOTS {
        warning!(
            "salesai.worker_databases names more than {} databases",
            wakeup::SLOTS
        );
    }
    for (slot, database) in (0..).zip(databases.iter().take(wakeup::SLOTS)) {
        BackgroundWorkerBuilder::new(&format!("pg_salesai worker for {database}"))
            .set_type("pg_salesai worker")
            .set_library("pg_salesai")
            .set_function("salesai_worker_main")
            .set_argument(slot.into_datum())
            .set_extra(database)
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_restart_time(Some(RESTART_PAUSE))
            .load();
    }
}

/// Entry point that PostgreSQL calls in the new process.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn salesai_worker_main(argument: pg_sys::Datum) {
    // SAFETY: `register` passed an i32.
    let slot = unsafe { i32::from_datum(argument, false) }.unwrap_or(0);
    transactions::prepare_process(BackgroundWorker::get_extra());
    wakeup::announce(slot.unsigned_abs() as usize);
    let transactions = OwnTransactions::new();
    loop {
        let pause = work(&transactions);
        wakeup::wait(pause);
        check_for_interrupts!();
        transactions::reload_settings();
    }
}

/// One round; returns how long to rest.
fn work(transactions: &OwnTransactions) -> Duration {
    if transactions.is_database_wanted() {
        // DROP DATABASE and ALTER DATABASE ... RENAME wait for us at most 5 s.
        log!("pg_salesai worker leaves its database to a command that needs it");
        transactions::leave();
    }
    if !transactions.has_due_jobs() {
        return config::worker_poll();
    }
    if embedding::check_ready(Deadline::after(STATE_TIMEOUT)).is_err() {
        // Jobs wait as they are: no lease, no attempt, no row version.
        return SIDECAR_PAUSE;
    }
    let batch = pipeline::run_batch(
        transactions,
        config::worker_batch_size(),
        Priority::Background,
        &|| Deadline::after(config::job_timeout()),
    );
    match batch.pause {
        Some(pause) => pause,
        None if batch.claimed == 0 => config::worker_poll(),
        None => Duration::ZERO,
    }
}
