//! The number of compute threads. candle takes it from the environment alone, at the first use of a
//! pool, and a process may not safely change its own environment: so the process starts itself anew.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What candle and rayon read.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Makes all pools have `threads` threads; 0 leaves the choice to the environment, which mostly means
/// one per core. Returns when that is so already, else this process becomes a fresh copy of itself.
/// Called before any thread of ours starts.
pub fn set(threads: u32) -> io::Result<()> {
    let threads = threads.to_string();
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| value == *threads);
    if threads == "0" || VARIABLES.iter().all(is_set) {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    for name in VARIABLES {
        again.env(name, &threads);
    }
    // Returns only on failure.
    Err(again.exec())
}
