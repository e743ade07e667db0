//! Background workers: for each database named in `salesai.worker_databases` some that lease jobs, call the
//! sidecar with no transaction open and write each result in one short transaction, and one that builds indexes.

mod top_level;
mod transactions;
mod wakeup;

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, check_for_interrupts};
use proto::model::Priority;

use crate::config;
use crate::pipeline::{self, Lanes, embedding};
use crate::sidecar::Deadline;
use transactions::OwnTransactions;
pub use wakeup::wake_at_commit;

/// Kinds of process, as pg_stat_activity.backend_type shows them.
const WORKER: &str = "pg_salesai worker";
const BUILDER: &str = "pg_salesai index builder";
/// Databases that are served.
const DATABASES_MAX: usize = 8;
/// How often the changes of the queue's counts are added up.
const COUNTS_PAUSE: Duration = Duration::from_secs(5);
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
    if databases.len() > DATABASES_MAX {
        warning!("salesai.worker_databases names more than {DATABASES_MAX} databases");
    }
    let workers = config::workers_per_database();
    let slots = databases
        .iter()
        .take(DATABASES_MAX)
        .flat_map(|database| (0..=workers).map(move |number| (database, number)));
    for (slot, (database, number)) in (0_i32..).zip(slots) {
        // The last one of each database.
        let is_builder = number == workers;
        let kind = if is_builder { BUILDER } else { WORKER };
        // The sign says which: the argument is all that a new process gets besides its database.
        let argument = if is_builder { -1 - slot } else { slot };
        BackgroundWorkerBuilder::new(&format!("{kind} for {database}"))
            .set_type(kind)
            .set_library("pg_salesai")
            .set_function("salesai_worker_main")
            .set_argument(argument.into_datum())
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
    let argument = unsafe { i32::from_datum(argument, false) }.unwrap_or(0);
    let (slot, lanes) = match argument {
        0.. => (argument, Lanes::Models),
        _ => (-1 - argument, Lanes::Maintenance),
    };
    transactions::prepare_process(BackgroundWorker::get_extra());
    wakeup::announce(slot.unsigned_abs() as usize);
    let transactions = OwnTransactions::new();
    let mut counts_added_up = Instant::now();
    loop {
        let pause = work(&transactions, lanes);
        wakeup::wait(pause);
        check_for_interrupts!();
        transactions::reload_settings();
        if lanes == Lanes::Models && counts_added_up.elapsed() > COUNTS_PAUSE {
            transactions.add_up_counts();
            counts_added_up = Instant::now();
        }
    }
}

/// One round; returns how long to rest.
fn work(transactions: &OwnTransactions, lanes: Lanes) -> Duration {
    if transactions.is_database_wanted() {
        // DROP DATABASE and ALTER DATABASE ... RENAME wait for us at most 5 s.
        log!("pg_salesai worker leaves its database to a command that needs it");
        transactions::leave();
    }
    if !transactions.has_due_jobs(lanes) {
        return config::worker_poll();
    }
    if lanes == Lanes::Models && embedding::check_ready(Deadline::after(STATE_TIMEOUT)).is_err() {
        // Jobs wait as they are: no lease, no attempt, no row version.
        return SIDECAR_PAUSE;
    }
    let batch = pipeline::run_batch(
        transactions,
        config::worker_batch_size(),
        lanes,
        Priority::Background,
        &|| Deadline::after(config::job_timeout()),
    );
    match batch.pause {
        Some(pause) => pause,
        None if batch.claimed == 0 || lanes == Lanes::Maintenance => config::worker_poll(),
        None => Duration::ZERO,
    }
}
