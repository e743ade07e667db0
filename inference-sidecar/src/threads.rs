//! How many threads compute, and where.
//!
//! candle takes their number from the environment alone, at the first use of a pool, and a process may not safely
//! change its own environment: so the process starts itself anew. The processors are those of all threads
//! together: a thread that were bound to a single one would wait for whatever else runs there, PostgreSQL most of
//! all, while another one is idle.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::{ConfigError, CpuList};

/// What candle and rayon read.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Makes all pools have `threads` threads, and keeps every thread of this process on the processors `cpus`.
/// 0 threads leave the choice to the environment, which mostly means one per core.
///
/// Returns when all that is so already, else this process becomes a fresh copy of itself: the allocator has threads
/// before any code of ours runs. Fails as [`check`].
pub fn set(threads: u32, cpus: Option<&CpuList>) -> Result<(), ConfigError> {
    let threads = threads.to_string();
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| value == *threads);
    let has_threads = threads == "0" || VARIABLES.iter().all(is_set);
    let is_confined = cpus.map_or(Ok(true), confine)?;
    if has_threads && is_confined {
        return Ok(());
    }
    let failed = |source| ConfigError::Restart { source };
    let mut again = Command::new(std::env::current_exe().map_err(failed)?);
    again.args(std::env::args_os().skip(1));
    if threads != "0" {
        for name in VARIABLES {
            again.env(name, &threads);
        }
    }
    // Returns only on failure.
    Err(failed(again.exec()))
}

/// Keeps all threads that start after this on the processors; true when that was so before.
fn confine(cpus: &CpuList) -> Result<bool, ConfigError> {
    let allowed = check(cpus)?;
    let mut set = CpuSet::new();
    cpus.numbers().iter().for_each(|cpu| set.set(*cpu));
    if allowed == set {
        return Ok(true);
    }
    let refused = |error: Errno| refused(&format!("left out here: {error}"));
    sched_setaffinity(None, &set).map_err(refused)?;
    Ok(false)
}

/// The processors that this process may run on; fails when one of `cpus` is not among them, or the system does not
/// tell.
pub fn check(cpus: &CpuList) -> Result<CpuSet, ConfigError> {
    let allowed = sched_getaffinity(None);
    let allowed = allowed.map_err(|error| refused(&format!("left out here: {error}")))?;
    match cpus.numbers().iter().find(|cpu| !allowed.is_set(**cpu)) {
        None => Ok(allowed),
        Some(cpu) => Err(refused(&format!(
            "processors that this process may run on; {cpu} is not one of them"
        ))),
    }
}

fn refused(expected: &str) -> ConfigError {
    ConfigError::Value {
        key: "cpus",
        expected: expected.to_owned(),
    }
}
