//! The launcher: the one process that the postmaster starts for us. It starts whom the settings name, so that a
//! reload changes databases and numbers; who is not named any more leaves by itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use pgrx::{IntoDatum, check_for_interrupts};

use super::posts::{self, Task};
use super::process;
use crate::config;
use crate::wait_events::WaitEvent;

/// As pg_stat_activity.backend_type shows it.
const LAUNCHER: &str = "pg_salesai launcher";
/// Databases that are served.
const DATABASES_MAX: usize = 8;
/// Pause before a worker that ended is started again: its database may be missing, or wanted by a command that lets
/// nobody in.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// What is known of a post; nothing before it is looked at for the first time.
enum State {
    Taken,
    /// Since somebody was started, or was seen no more.
    FreeSince(Instant),
}

/// Registers the launcher while the postmaster preloads the library.
pub fn register() {
    BackgroundWorkerBuilder::new(LAUNCHER)
        .set_library("pg_salesai")
        .set_function("salesai_launcher_main")
        .enable_spi_access()
        // Not on a standby, whose queue nobody can write; at once when it is promoted.
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART_PAUSE))
        .load();
}

/// Entry point that PostgreSQL calls in the new process.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn salesai_launcher_main(_argument: pg_sys::Datum) {
    process::handle_signals();
    // To no database, as the launcher of logical replication: pg_stat_activity shows it then.
    BackgroundWorker::connect_worker_to_spi(None, None);
    let mut states: HashMap<(String, Task), State> = HashMap::new();
    loop {
        let wanted = wanted();
        states.retain(|post, _| wanted.contains(post));
        for post in wanted {
            let state = match states.get(&post) {
                _ if posts::is_taken(&post.0, post.1) => State::Taken,
                Some(State::Taken) => State::FreeSince(Instant::now()),
                Some(&State::FreeSince(since)) if since.elapsed() < RESTART_PAUSE => continue,
                _ => {
                    start(&post.0, post.1);
                    State::FreeSince(Instant::now())
                }
            };
            states.insert(post, state);
        }
        process::wait(RESTART_PAUSE, WaitEvent::Launcher);
        check_for_interrupts!();
        process::reload_settings();
    }
}

/// Whom the settings name.
fn wanted() -> Vec<(String, Task)> {
    let databases = config::worker_databases();
    if databases.len() > DATABASES_MAX {
        warning!("salesai.worker_databases names more than {DATABASES_MAX} databases");
    }
    let tasks = || {
        (0..config::workers_per_database())
            .map(Task::Work)
            .chain([Task::BuildIndexes])
    };
    databases
        .into_iter()
        .take(DATABASES_MAX)
        .flat_map(|database| tasks().map(move |task| (database.clone(), task)))
        .collect()
}

fn start(database: &str, task: Task) {
    let kind = task.kind();
    // SAFETY: set once a process is initialised.
    #[allow(unsafe_code)]
    let own_pid = unsafe { pg_sys::MyProcPid };
    let started = BackgroundWorkerBuilder::new(&format!("{kind} for {database}"))
        .set_type(kind)
        .set_library("pg_salesai")
        .set_function("salesai_worker_main")
        .set_argument(task.number().into_datum())
        .set_extra(database)
        .enable_spi_access()
        // Its end wakes us, who decide about its successor.
        .set_restart_time(None)
        .set_notify_pid(own_pid)
        .load_dynamic();
    if started.is_err() {
        ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            format!("no room for a {kind} of database \"{database}\""),
            "Raise max_worker_processes and restart the server, or lower salesai.workers_per_database."
        );
    }
}
