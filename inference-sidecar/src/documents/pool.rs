//! Starts readers, as many at once as there are cores.

use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::{Outcome, ProblemKind};
use crate::error::Error;

/// Bounds how many documents are read at once.
pub struct DocumentPool {
    places: Semaphore,
}

impl Default for DocumentPool {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: Semaphore::new(cores),
        }
    }
}

impl DocumentPool {
    /// Reads a document. Dropping the future ends the reader.
    pub async fn read(
        &self,
        file_name: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<Outcome, Error> {
        let _place = self.places.acquire().await.map_err(|_| Error::Stopping)?;
        let failed = |source| Error::DocumentReader { source };
        let mut reader = start(file_name, media_type).map_err(failed)?;
        let outcome = converse(&mut reader, content).await.map_err(failed)?;
        let status = reader.wait().await.map_err(failed)?;
        Ok(match status.success() {
            true => serde_json::from_slice(&outcome).map_err(|_| Error::WorkerPanicked)?,
            false => died(status),
        })
    }
}

/// A copy of this program, without what its environment holds.
fn start(file_name: &str, media_type: &str) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("read-document").arg("--").arg(file_name);
    if !media_type.is_empty() {
        command.arg(media_type);
    }
    command
        .env_clear()
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
/// limit of the system.
fn died(status: ExitStatus) -> Outcome {
    let (kind, detail) = match status.code() {
        Some(_) => (ProblemKind::Damaged, "its reader failed"),
        None => (
            ProblemKind::TooLarge,
            "its reader needed too much time or memory",
        ),
    };
    Outcome::Problem {
        kind,
        detail: format!("the document cannot be read: {detail}"),
    }
}
