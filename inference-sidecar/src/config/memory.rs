//! Whether the machine can hold what the configuration reserves.

use std::path::Path;

use super::{Config, ConfigError};

/// Refuses pools of keys and values that are larger together than the machine's memory: it is an upper
/// bound that no use of the server can reach, not a promise that what is below it is free.
pub fn check_memory(config: &Config) -> Result<(), ConfigError> {
    match machine_mib() {
        Some(mib) => check_within(config, mib),
        None => Ok(()),
    }
}

pub(super) fn check_within(config: &Config, machine_mib: u64) -> Result<(), ConfigError> {
    let pools = config.language_models.len() as u64;
    if pools.saturating_mul(config.kv_mib) <= machine_mib {
        return Ok(());
    }
    Err(ConfigError::Value {
        key: "kv_mib",
        expected: format!(
            "at most {}: {pools} language model(s) share the {machine_mib} MiB of this machine",
            machine_mib / pools
        ),
    })
}

/// Memory of the machine, or what the control group of this process may use of it, where Linux tells.
fn machine_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let machine = kib / 1024;
    Some(control_group_mib().map_or(machine, |group| machine.min(group)))
}

/// The least bound of this process's group and of those around it (cgroup v2); None without one.
fn control_group_mib() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let bounds = Path::new(path).ancestors().filter_map(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    let bytes: u64 = bounds.min()?;
    Some(bytes / (1024 * 1024))
}
