//! The directory of this test run and the processes in it.
//!
//! Each server works in a directory of its own below one short path in /tmp (a Unix socket's name has at
//! most 103 bytes). A reaper holds the other end of a pipe: when the test process ends in whatever way,
//! it stops every process that works below that path, and deletes it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::config;

const REAPER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
stop() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd") in "$0"/*) kill "$1" "${process#/proc/}" ;; esac
    done 2>/dev/null
}
stop -QUIT
sleep 1
stop -KILL
rm -rf -- "$0"
"#;

struct Home {
    path: PathBuf,
    _reaper: Child,
}

/// A new directory that only the servers' user may enter.
pub fn new_dir(purpose: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = home().join(format!("{purpose}{count}"));
    fs::create_dir(&dir).expect("create a directory");
    give_to_run_user(&dir, 0o700);
    dir
}

/// Writes a file that the servers' user owns.
pub fn write_file(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).expect("write a file");
    give_to_run_user(path, mode);
}

/// A command that runs as the servers' user, in `dir`.
pub fn command(program: impl AsRef<Path>, dir: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8");
    if let Some(user) = config().run_user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Runs a command to its end; panics with its output when it fails.
pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Sends a signal such as "-STOP" to a process that we started.
pub fn signal(signal: &str, pid: u32) {
    run(Command::new("kill").args([signal, &pid.to_string()]));
}

/// Processes that work in `dir`: a server and its children.
pub fn processes_in(dir: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("read /proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir))
        .collect()
}

fn home() -> &'static Path {
    static HOME: OnceLock<Home> = OnceLock::new();
    &HOME
        .get_or_init(|| {
            let dir = tempfile::Builder::new()
                .prefix("salesai-")
                .tempdir_in("/tmp");
            let path = dir.expect("create a directory in /tmp").keep();
            give_to_run_user(&path, 0o700);
            let mut reaper = Command::new("setsid");
            reaper
                .args(["sh", "-c", REAPER])
                .arg(&path)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Home {
                path,
                _reaper: reaper.spawn().expect("start the reaper"),
            }
        })
        .path
}

/// Makes the servers' user the owner.
pub fn give_to_run_user(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set permissions");
    if let Some(user) = config().run_user {
        chown(path, Some(user.uid), Some(user.gid)).expect("change the owner");
    }
}
