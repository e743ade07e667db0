//! The words that labels are made of.

use tonic::Code;

/// Why a request was turned away before it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No place to wait was free.
    QueueFull,
    /// A limit of the contract or of the model is broken.
    Invalid,
    /// No such model, or an adapter that is not in memory.
    NotFound,
    /// The server is starting or stopping.
    Unavailable,
}

/// How a request ended that was not left by its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model ended its turn, or the vectors are done.
    End,
    /// A stop string was found.
    Stop,
    /// `tokens_max` was reached.
    Length,
    /// `tokens_max` was reached before the text obeyed its constraint.
    ConstraintUnfinished,
    /// The deadline passed, waiting or running.
    DeadlineExceeded,
    /// The server's fault.
    Failed,
}

/// Whether an upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// One request finds out.
    HalfOpen,
    /// It is not.
    Open,
}

impl Rejection {
    pub(super) const ALL: [Self; 4] = [
        Self::QueueFull,
        Self::Invalid,
        Self::NotFound,
        Self::Unavailable,
    ];

    /// The reason behind the status of a call that did not begin; None when it was no refusal.
    pub fn of(code: Code) -> Option<Self> {
        match code {
            Code::ResourceExhausted => Some(Self::QueueFull),
            Code::InvalidArgument => Some(Self::Invalid),
            Code::NotFound => Some(Self::NotFound),
            Code::Unavailable => Some(Self::Unavailable),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Ending {
    pub(super) const ALL: [Self; 6] = [
        Self::End,
        Self::Stop,
        Self::Length,
        Self::ConstraintUnfinished,
        Self::DeadlineExceeded,
        Self::Failed,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ConstraintUnfinished => "constraint_unfinished",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Failed => "failed",
        }
    }
}

impl BreakerState {
    /// The value of `salesai_upstream_breaker_state`.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}
