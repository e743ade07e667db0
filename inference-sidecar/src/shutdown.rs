//! The one shutdown signal of the process.

use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;

/// Listens for SIGTERM and SIGINT from now on; the returned future ends with the first one.
pub fn signals() -> Result<impl Future<Output = &'static str>, Error> {
    let listen = |kind| {
        signal(kind).map_err(|error| Error::Setup {
            part: "signals",
            source: error.into(),
        })
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
