//! Background processes: a launcher, and for each database named in `salesai.worker_databases` some workers that lease
//! jobs and questions, call the sidecar with no transaction open and write each result in one short transaction, and
//! one that builds indexes.

mod launcher;
mod posts;
mod process;
mod top_level;
mod transactions;

use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;
use pgrx::{FromDatum, check_for_interrupts};
use proto::model::Priority;

use crate::config;
use crate::errand::{self, Errand};
use crate::error::Error;
use crate::pipeline::embedding::STATE_TIMEOUT;
use crate::pipeline::{self, Filled, Lanes, Round, SIDECAR_PAUSE, embedding};
use crate::progress;
use crate::sidecar::Deadline;
use crate::wait_events::WaitEvent;
use posts::Task;
pub use posts::wake_at_commit;
use transactions::OwnTransactions;

/// How often the changes of the queue's counts are added up, and old results dropped.
const TIDY_PAUSE: Duration = Duration::from_secs(5);

/// Registers the launcher when the postmaster loads the library; does nothing in a backend.
pub fn register() {
    // SAFETY: a flag that only the postmaster's start-up sets.
    #[allow(unsafe_code)]
    let is_preloading = unsafe { pg_sys::process_shared_preload_libraries_in_progress };
    if is_preloading {
        posts::register();
        progress::register();
        launcher::register();
    }
}

impl Task {
    /// Kind of process, as pg_stat_activity.backend_type shows it.
    fn kind(self) -> &'static str {
        match self {
            Self::Work(_) => "pg_salesai worker",
            Self::BuildIndexes => "pg_salesai index builder",
        }
    }

    fn lanes(self) -> Lanes {
        match self {
            Self::Work(_) => Lanes::Models,
            Self::BuildIndexes => Lanes::Maintenance,
        }
    }

    /// Whether it also answers questions that wait. A slow model may take minutes for one, so where there are several
    /// workers, the first has jobs alone.
    fn answers(self) -> bool {
        match self {
            Self::Work(number) => number > 0 || config::workers_per_database() == 1,
            Self::BuildIndexes => false,
        }
    }

    /// All that a new process gets besides its database.
    fn number(self) -> i32 {
        match self {
            Self::Work(number) => number,
            Self::BuildIndexes => -1,
        }
    }

    fn from_number(number: i32) -> Self {
        match number {
            0.. => Self::Work(number),
            _ => Self::BuildIndexes,
        }
    }

    /// Whether the settings still name this task for the database.
    fn is_wanted(self, database: &str) -> bool {
        let is_served = config::worker_databases()
            .iter()
            .any(|name| name == database);
        is_served && self.number() < config::workers_per_database()
    }
}

/// Entry point that PostgreSQL calls in the new process.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn salesai_worker_main(argument: pg_sys::Datum) {
    // SAFETY: the launcher passed an i32.
    let number = unsafe { i32::from_datum(argument, false) }.unwrap_or(0);
    let task = Task::from_number(number);
    let database = BackgroundWorker::get_extra().to_owned();
    process::handle_signals();
    if !posts::take(&database, task) {
        // A launcher that was started anew did not see the one who has it.
        process::leave();
    }
    BackgroundWorker::connect_worker_to_spi(Some(&database), None);
    let transactions = OwnTransactions::new(database.clone());
    let mut tidied = Instant::now();
    let errand: Rc<dyn Errand> = Rc::new(transactions.clone());
    while task.is_wanted(&database) {
        let pause = errand::run(Rc::clone(&errand), || {
            let pause = work(&transactions, task.lanes());
            match task.answers() {
                true => pause.min(answer(&transactions)),
                false => pause,
            }
        });
        process::wait(pause, WaitEvent::Queue);
        check_for_interrupts!();
        process::reload_settings();
        if task == Task::Work(0) && tidied.elapsed() > TIDY_PAUSE {
            transactions.tidy_up();
            tidied = Instant::now();
        }
    }
    process::leave();
}

/// One round; returns how long to rest.
fn work(transactions: &OwnTransactions, lanes: Lanes) -> Duration {
    transactions.make_way();
    let has_merged = transactions.merge_lexical_index(lanes);
    let has_coded = transactions.code_embeddings(lanes);
    // There may be more of it.
    let rest = |pause| match has_merged || has_coded {
        true => Duration::ZERO,
        false => pause,
    };
    if !transactions.has_due_jobs(lanes) {
        return rest(config::worker_poll());
    }
    if lanes == Lanes::Models && embedding::check_ready(Deadline::after(STATE_TIMEOUT)).is_err() {
        // Jobs wait as they are: no lease, no attempt, no row version.
        return rest(SIDECAR_PAUSE);
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
        None if batch.claimed == 0 || lanes == Lanes::Maintenance => rest(config::worker_poll()),
        None => Duration::ZERO,
    }
}

/// Answers one question that waits, or fills some rows of a column where none does; returns how long to rest.
fn answer(transactions: &OwnTransactions) -> Duration {
    transactions.make_way();
    let has_requests = transactions.has_due_requests();
    if !has_requests && !transactions.has_due_columns() {
        return config::worker_poll();
    }
    match embedding::check_ready(Deadline::after(STATE_TIMEOUT)) {
        Ok(()) => {}
        Err(Error::Withdrawn) => return SIDECAR_PAUSE,
        Err(error) => {
            pipeline::note_outage(transactions, error);
            return SIDECAR_PAUSE;
        }
    }
    if !has_requests {
        return fill(transactions);
    }
    match pipeline::answer_next(transactions, config::job_timeout()) {
        Round::Answered => Duration::ZERO,
        Round::Idle => config::worker_poll(),
        Round::Failed(pause) => pause,
    }
}

fn fill(transactions: &OwnTransactions) -> Duration {
    let rows_max = config::worker_batch_size();
    match pipeline::fill_next(transactions, rows_max, config::job_timeout()) {
        Filled::Rows(_) => Duration::ZERO,
        Filled::Idle => config::worker_poll(),
        Filled::Failed(pause) => pause,
    }
}
