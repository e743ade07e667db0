//! How many threads compute, and where.
//!
//! candle takes their number from the environment alone, at the first use of a pool, and a process may not safely
//! change its own environment: so the process starts itself anew. The processors are those of all threads
//! together: a thread that were bound to a single one would wait for whatever else runs there, PostgreSQL most of
//! all, while another one is idle.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::{ConfigError, CpuList};

/// What candle and rayon read.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Makes all pools have `threads` threads, and keeps every thread of this process on the processors `cpus`.
/// 0 threads leave the choice to the environment, which mostly means one per core.
///
/// Returns when all that is so already, else this process becomes a fresh copy of itself: the allocator has threads
/// before any code of ours runs. Fails as [`check`].
pub fn set(threads: u32, cpus: Option<&CpuList>) -> anyhow::Result<()> {
    let threads = threads.to_string();
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| value == *threads);
    let has_threads = threads == "0" || VARIABLES.iter().all(is_set);
    let is_confined = cpus.map_or(Ok(true), confine)?;
    if has_threads && is_confined {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    if threads != "0" {
        for name in VARIABLES {
            again.env(name, &threads);
        }
    }
    // Returns only on failure.
    Err(again.exec().into())
}

/// Keeps all threads that start after this on the processors; true when that was so before.
fn confine(cpus: &CpuList) -> Result<bool, ConfigError> {
    check(cpus)?;
    let mut set = CpuSet::new();
    cpus.numbers().iter().for_each(|cpu| set.set(*cpu));
    if sched_getaffinity(None).is_ok_and(|allowed| allowed == set) {
        return Ok(true);
    }
    let refused = |_| refused("processors that this process may run on");
    sched_setaffinity(None, &set).map_err(refused)?;
    Ok(false)
}

/// Fails when this process may not run on one of them.
pub fn check(cpus: &CpuList) -> Result<(), ConfigError> {
    // Where the system does not tell, it will refuse.
    let Ok(allowed) = sched_getaffinity(None) else {
        return Ok(());
    };
    match cpus.numbers().iter().find(|cpu| !allowed.is_set(**cpu)) {
        None => Ok(()),
        Some(cpu) => Err(refused(&format!(
            "processors that this process may run on, and {cpu} is none"
        ))),
    }
}

fn refused(expected: &str) -> ConfigError {
    ConfigError::Value {
        key: "cpus",
        expected: expected.to_owned(),
    }
}
