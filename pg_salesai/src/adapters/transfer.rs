//! An adapter's way from its table to the sidecar: one stored part in memory at a time.

use std::time::Duration;

use proto::client::ClientError;

use super::registry::{self, ActiveAdapter};
use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// Wait before asking again while another session sends the same adapter, where the sidecar does not say.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Longest such wait.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Makes the sidecar hold the active generation of `name`; returns that generation.
pub fn load(name: &str, deadline: Deadline) -> Result<u64, Error> {
    let mut is_replaced = false;
    loop {
        let adapter = registry::active_adapter(name)?;
        match send(adapter, deadline) {
            Err(Error::Sidecar(ClientError::AdapterBusy { retry_after_ms })) => {
                let pause = retry_after_ms.map_or(BUSY_PAUSE, Duration::from_millis);
                sidecar::pause(pause.clamp(BUSY_PAUSE / 10, BUSY_PAUSE_MAX), deadline)?;
            }
            // An older generation was made active again: the newer one has to go first.
            Err(Error::Sidecar(ClientError::AdapterOutdated)) if !is_replaced => {
                is_replaced = true;
                unload(name, deadline)?;
            }
            outcome => return outcome,
        }
    }
}

/// Frees the sidecar's copy; false when it had none.
pub fn unload(name: &str, deadline: Deadline) -> Result<bool, Error> {
    let answer = sidecar::call(deadline, async |client| {
        client.unload_adapter(name, deadline.remaining()).await
    });
    match answer {
        Ok(()) => Ok(true),
        Err(Error::Sidecar(ClientError::NotFound(_) | ClientError::AdapterMissing { .. })) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn send(adapter: ActiveAdapter, deadline: Deadline) -> Result<u64, Error> {
    let mut positions = 0..;
    sidecar::send_adapter(deadline, adapter.header, || {
        let position = positions.next().unwrap_or(i32::MAX);
        registry::part(adapter.id, position)
    })
}
