//! How an attempt at an upstream can go wrong, and what follows from it.

use std::time::Duration;

use thiserror::Error;

use crate::error::Error;

/// How long a client should wait when an overloaded upstream does not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// The longest wait that an upstream may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// One failed attempt. Its text is for the log and holds nothing of request or answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Failure {
    #[error("could not connect: {0}")]
    Connect(String),
    #[error("no token in time")]
    FirstTokenTimeout,
    #[error("stalled between two tokens")]
    Stalled,
    #[error("overloaded")]
    Overloaded { retry_after: Option<Duration> },
    /// The configuration on one of the two sides is wrong: key, path, model name.
    #[error("answered {0}: check the address, the key and the model's name there")]
    Setup(String),
    /// The upstream finds fault with the request itself.
    #[error("refused the request")]
    Rejected {
        /// From other sidecars alone: they say nothing of the request's texts.
        detail: Option<String>,
    },
    /// The upstream does not keep to the protocol.
    #[error("broke off: {0}")]
    Broken(&'static str),
    /// Another sidecar wants the adapter to be sent.
    #[error("adapter is not loaded there")]
    AdapterMissing { name: String },
    #[error("the answer was cut before it obeyed its constraint")]
    ConstraintUnfinished,
    /// The caller's time is over, which is nobody's fault.
    #[error("the deadline passed")]
    Deadline,
}

impl Failure {
    /// True when the upstream is to blame: enough of these open its breaker.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Failure::Connect(_)
                | Failure::FirstTokenTimeout
                | Failure::Stalled
                | Failure::Setup(_)
                | Failure::Broken(_)
        )
    }

    /// True when another upstream may do better.
    pub fn may_fail_over(&self) -> bool {
        self.is_fault() || matches!(self, Failure::Overloaded { .. })
    }

    /// What the client learns when no other upstream can help; `is_started` tells whether it has
    /// received text.
    pub fn into_error(self, model: &str, tokens_max: u32, is_started: bool) -> Error {
        let model = model.to_owned();
        match self {
            Failure::Overloaded { retry_after } => Error::QueueFull {
                retry_after: retry_after.map_or(RETRY_AFTER_DEFAULT, |d| d.min(RETRY_AFTER_MAX)),
            },
            Failure::Rejected { detail } => Error::UpstreamRejected { model, detail },
            Failure::AdapterMissing { name } => Error::AdapterNotFound { name },
            Failure::ConstraintUnfinished => Error::ConstraintUnfinished {
                tokens_max: tokens_max as usize,
            },
            Failure::Deadline => Error::DeadlineExceeded,
            _ if is_started => Error::UpstreamBroke { model },
            _ => Error::UpstreamUnavailable { model },
        }
    }
}
