//! Starts readers, as many at once as there are cores.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::{Outcome, ProblemKind};
use crate::error::Error;

/// How long a reader may take: less than the job of the database that waits for it.
const TIME_MAX: Duration = Duration::from_secs(90);
/// Documents that may wait for each reader that runs.
const WAITING_PER_CORE: usize = 4;
/// When to ask again after a refusal.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds how many documents are in memory, and how many are read at once.
pub struct DocumentPool {
    door: Semaphore,
    cores: Semaphore,
}

impl Default for DocumentPool {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            door: Semaphore::new(cores * (1 + WAITING_PER_CORE)),
            cores: Semaphore::new(cores),
        }
    }
}

impl DocumentPool {
    /// A place for one document; taken before it is received.
    pub fn admit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.door.try_acquire().map_err(|_| Error::QueueFull {
            retry_after: RETRY_AFTER,
        })
    }

    /// Reads a document. Dropping the future ends the reader.
    pub async fn read(
        &self,
        file_name: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<Outcome, Error> {
        let _core = self.cores.acquire().await.map_err(|_| Error::Stopping)?;
        let failed = |source| Error::DocumentReader { source };
        let mut reader = start(file_name, media_type).map_err(failed)?;
        let outcome = match timeout(TIME_MAX, converse(&mut reader, content)).await {
            Ok(outcome) => outcome.map_err(failed)?,
            Err(_) => return Ok(too_costly()),
        };
        let status = reader.wait().await.map_err(failed)?;
        match status.success() {
            true => serde_json::from_slice(&outcome).map_err(|_| Error::WorkerPanicked),
            false => died(status).map_err(failed),
        }
    }
}

/// A copy of this program, without what its environment holds.
fn start(file_name: &str, media_type: &str) -> std::io::Result<Child> {
    // Also after another version was installed in its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg("read-document").arg("--").arg(file_name);
    if !media_type.is_empty() {
        command.arg(media_type);
    }
    command
        .env_clear()
        // Where the libraries are that this program was linked to.
        .envs(std::env::vars_os().filter(|(name, _)| name == "LD_LIBRARY_PATH"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Libraries may print words of the document.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Writes the document and reads the outcome, both at once.
async fn converse(reader: &mut Child, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let (Some(mut stdin), Some(mut stdout)) = (reader.stdin.take(), reader.stdout.take()) else {
        return Err(std::io::Error::other("the reader has no pipes"));
    };
    let write = async move {
        // One that has died does not listen; its end says more.
        let _ = stdin.write_all(content).await;
    };
    let mut outcome = Vec::new();
    let (_, read) = tokio::join!(write, stdout.read_to_end(&mut outcome));
    read?;
    Ok(outcome)
}

/// A reader that panics has met something that its library did not expect; one that a signal ends has reached a
/// limit of the system. Anything else is no fault of the document.
fn died(status: ExitStatus) -> std::io::Result<Outcome> {
    const PANICKED: i32 = 101;
    match status.code() {
        Some(PANICKED) => Ok(Outcome::Problem {
            kind: ProblemKind::Damaged,
            detail: "the document is damaged: its reader failed".to_owned(),
        }),
        None => Ok(too_costly()),
        Some(_) => Err(std::io::Error::other(status.to_string())),
    }
}

fn too_costly() -> Outcome {
    Outcome::Problem {
        kind: ProblemKind::TooLarge,
        detail: "the document is too large: its reader needed too much time or memory".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: how a reader ended tells whether its document is damaged or too costly.

    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn readers_that_die_are_told_apart() {
        let kind = |status: i32| match died(ExitStatus::from_raw(status)) {
            Ok(Outcome::Problem { kind, .. }) => Some(kind),
            Ok(Outcome::Text { .. }) | Err(_) => None,
        };
        // A panic; SIGKILL, SIGXCPU and SIGABRT, as when memory is out.
        assert_eq!(kind(101 << 8), Some(ProblemKind::Damaged));
        assert_eq!(kind(1 << 8), None);
        for signal in [9, 24, 6] {
            assert_eq!(kind(signal), Some(ProblemKind::TooLarge));
        }
    }
}
