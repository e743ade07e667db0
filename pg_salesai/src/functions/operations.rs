//! Draining the queue by hand, waking the worker, versions.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::pipeline::{self, CallersTransaction};
use crate::rights::WorkerRights;
use crate::sidecar::Deadline;
use crate::worker;

#[pg_extern(sql = "")]
fn process(max_jobs: Option<i32>, timeout_ms: Option<i32>) -> Result<i32, ErrorReport> {
    let max_jobs = max_jobs.unwrap_or(100);
    if max_jobs < 1 {
        Err(Error::argument("max_jobs must be at least 1"))?;
    }
    Deadline::from_argument(timeout_ms)?;
    // Whoever may call this need not have the rights to write chunks and vectors.
    let _rights = WorkerRights::assume();
    Ok(pipeline::process_here(
        &CallersTransaction,
        max_jobs,
        timeout_ms,
    )?)
}

#[pg_extern(sql = "")]
fn wake_worker() {
    worker::wake_at_commit();
}

#[pg_extern(sql = "")]
fn library_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
