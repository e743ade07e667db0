//! The states of the server as other processes see them, and the question "are you ready?".

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use proto::client::{ClientError, SidecarClient};
use proto::wire::ServerState;

/// How long `--check` waits for each of its two steps.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The state machine starting → ready → stopping; no way back.
pub struct Readiness {
    state: Mutex<ServerState>,
}

impl Readiness {
    pub fn starting() -> Self {
        Self {
            state: Mutex::new(ServerState::Starting),
        }
    }

    pub fn state(&self) -> ServerState {
        *self.lock()
    }

    /// Every model has answered. False when the server is stopping already.
    pub fn set_ready(&self) -> bool {
        let mut state = self.lock();
        if *state == ServerState::Starting {
            *state = ServerState::Ready;
        }
        *state == ServerState::Ready
    }

    pub fn set_stopping(&self) {
        *self.lock() = ServerState::Stopping;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ServerState> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Asks the server on `socket` for its state; the error is a line for the operator.
pub async fn check(socket: &Path) -> Result<(), String> {
    let status = async {
        SidecarClient::connect(socket, CHECK_TIMEOUT)
            .await?
            .status(CHECK_TIMEOUT)
            .await
    };
    match status.await {
        Ok(status) if status.state() == ServerState::Ready => Ok(()),
        Ok(status) => Err(format!("not ready: {}", status.state().as_str_name())),
        Err(ClientError::Unavailable { detail } | ClientError::Disconnected { detail }) => {
            Err(format!("not reachable: {detail}"))
        }
        Err(error) => Err(format!("not ready: {error}")),
    }
}
