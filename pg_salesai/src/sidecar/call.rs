//! One call to the sidecar: connect, ask, disconnect.
//!
//! Runtime and connection live for one call only. A Unix socket connects in well under a millisecond,
//! and nothing stale is left after a cancel, a fork or a restart of the sidecar: closing the socket is
//! what tells the sidecar to stop.

use std::pin::pin;
use std::time::{Duration, Instant};

use pgrx::check_for_interrupts;
use proto::client::{ClientError, SidecarClient};

use super::interrupts::{self, Waited};
use crate::config;
use crate::errand;
use crate::error::Error;
use crate::usage;
use crate::wait_events::{WaitEvent, Waiting};

/// When a call must have its answer.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    timeout: Duration,
}

impl Deadline {
    /// `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self {
            end: Instant::now() + timeout,
            timeout,
        }
    }

    /// `timeout_ms` from now, or what `salesai.timeout_ms` says.
    pub fn from_argument(timeout_ms: Option<i32>) -> Result<Self, Error> {
        match timeout_ms {
            None => Ok(Self::after(config::timeout())),
            Some(ms) if ms > 0 => Ok(Self::after(Duration::from_millis(ms.unsigned_abs().into()))),
            Some(_) => Err(Error::argument("timeout_ms must be at least 1")),
        }
    }

    /// What it began with.
    pub fn timeout(self) -> Duration {
        self.timeout
    }

    /// Time left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// An error once it has passed.
    pub fn check(self) -> Result<(), ClientError> {
        match self.remaining().is_zero() {
            true => Err(ClientError::DeadlineExceeded),
            false => Ok(()),
        }
    }
}

/// Connects to the sidecar and runs `ask` with the connection. Returns within a few milliseconds of a
/// cancel or terminate by raising PostgreSQL's own error; the sidecar sees the closed connection.
pub fn call<T>(
    deadline: Deadline,
    ask: impl AsyncFnOnce(&mut SidecarClient) -> Result<T, ClientError>,
) -> Result<T, Error> {
    deadline.check()?;
    wait(async {
        let mut client = connected(deadline).await?;
        match tokio::time::timeout(deadline.remaining(), ask(&mut client)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::DeadlineExceeded),
        }
    })
}

/// Rests before the sidecar is asked again; fails at once when that would be after the deadline.
pub fn pause(duration: Duration, deadline: Deadline) -> Result<(), Error> {
    if duration >= deadline.remaining() {
        return Err(ClientError::DeadlineExceeded.into());
    }
    wait(async {
        tokio::time::sleep(duration).await;
        Ok(())
    })
}

/// A connection to the sidecar.
pub(super) async fn connected(deadline: Deadline) -> Result<SidecarClient, ClientError> {
    let connect_timeout = config::connect_timeout().min(deadline.remaining());
    match SidecarClient::connect(&config::sidecar_socket(), connect_timeout).await {
        // Not for want of a server: there was no time left to ask.
        Err(ClientError::Unavailable { .. }) if deadline.remaining().is_zero() => {
            Err(ClientError::DeadlineExceeded)
        }
        client => client,
    }
}

/// The runtime of one call; it has no threads of its own.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn wait<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, Error> {
    wait_on(&runtime()?, answer)
}

pub(super) fn wait_on<T>(
    runtime: &tokio::runtime::Runtime,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Error> {
    let mut answer = pin!(answer);
    let _waiting = Waiting::new(WaitEvent::Sidecar);
    let start = Instant::now();
    loop {
        match runtime.block_on(interrupts::wait(answer.as_mut())) {
            Waited::Answered(answer) => {
                usage::count_wait(start);
                return Ok(answer?);
            }
            // The runtime is not on the stack here, so unwinding (cancel) drops connection and runtime.
            Waited::Interrupted => {
                check_for_interrupts!();
            }
            Waited::LookDue => errand::look()?,
        }
    }
}
