//! Everything that can go wrong, and the one place that turns it into a gRPC status.

use std::path::PathBuf;
use std::time::Duration;

use proto::client::{CONTEXT_EXCEEDED, MISSING_ADAPTER};
use proto::model::InvalidRequest;
use thiserror::Error;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Why a request or the start of the server failed. Texts of requests never appear in it.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    #[error(
        "the prompt has {prompt_tokens} tokens and {completion_tokens} are to be made, \
         the model takes {tokens_max} together"
    )]
    ContextExceeded {
        prompt_tokens: usize,
        completion_tokens: usize,
        tokens_max: usize,
    },
    #[error("the model's chat template refuses this order of messages")]
    ConversationRefused,
    #[error("\"tokens_max\" must be at most {tokens_max} for this model")]
    ChunkBudget { tokens_max: usize },
    #[error("there is no {kind} model \"{name}\"")]
    ModelNotFound { kind: &'static str, name: String },
    /// The client is asked to send it.
    #[error("adapter \"{name}\" is not loaded")]
    AdapterNotFound { name: String },
    #[error("adapter \"{name}\" cannot be used: {reason}")]
    AdapterUnusable { name: String, reason: String },
    #[error("adapter \"{name}\" is loaded with generation {loaded}")]
    AdapterOutdated { name: String, loaded: u64 },
    #[error("adapter \"{name}\" is being sent by another client")]
    AdapterInTransit { name: String },
    #[error("the adapters would need {bytes} bytes, {bytes_max} are allowed")]
    AdapterRoom { bytes: u64, bytes_max: u64 },
    #[error("all memory for adapters is in use")]
    AdaptersBusy { retry_after: Duration },
    #[error("the constraint is not usable: {reason}")]
    ConstraintRefused { reason: String },
    /// A fault of model or server, not of the caller.
    #[error("the constraint could not be followed: {reason}")]
    ConstraintFailed { reason: &'static str },
    #[error("max_tokens ({tokens_max}) was reached before the text obeyed its constraint")]
    ConstraintUnfinished { tokens_max: usize },
    #[error(
        "model \"{model}\" is not served here, and a request that another sidecar has sent is not \
         sent on"
    )]
    RoutedTwice { model: String },
    #[error("no upstream of model \"{model}\" answers")]
    UpstreamUnavailable { model: String },
    #[error("the upstream of model \"{model}\" broke off in the middle of the answer")]
    UpstreamBroke { model: String },
    /// The detail comes from other sidecars alone, whose messages hold no texts of requests.
    #[error("the upstream of model \"{model}\" refuses the request{}", detail.as_ref().map_or(String::new(), |d| format!(": {d}")))]
    UpstreamRejected {
        model: String,
        detail: Option<String>,
    },
    #[error("\"{field}\" cannot be expressed to any upstream of model \"{model}\"")]
    UpstreamLacks { model: String, field: &'static str },
    #[error("a route is not usable: {reason}")]
    Route { reason: String },
    #[error("{operation} is not implemented by this version")]
    Unimplemented { operation: &'static str },
    #[error("the queue is full")]
    QueueFull { retry_after: Duration },
    #[error("the server is starting")]
    Starting,
    #[error("the server is stopping")]
    Stopping,
    #[error("the deadline passed")]
    DeadlineExceeded,
    #[error("the caller left")]
    Cancelled,

    #[error("a document's reader could not be run")]
    DocumentReader { source: std::io::Error },
    #[error("could not read {path:?}")]
    ReadFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("model file {path:?} is not usable: {reason}")]
    ModelFile { path: PathBuf, reason: String },
    #[error("weights {path:?} have SHA-256 {actual}, expected {expected}")]
    WeightsChanged {
        path: PathBuf,
        actual: String,
        expected: String,
    },
    #[error("two models have the name \"{name}\"")]
    DuplicateName { name: String },
    #[error("another server answers on socket {path:?}")]
    SocketInUse { path: PathBuf },
    #[error("could not open socket {path:?}")]
    Socket {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("could not listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error(
        "listening on TCP needs a certificate, its key, and the authority that signs the clients'"
    )]
    ListenWithoutTls,
    #[error("could not serve on the socket")]
    Transport(#[from] tonic::transport::Error),
    #[error("{kv_mib} MiB for keys and values hold no sequence of useful length")]
    KvTooSmall { kv_mib: u64 },
    #[error("could not set up {part}")]
    Setup {
        part: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    #[error("the model failed")]
    Compute(#[from] candle_core::Error),
    #[error("the model returned values that are not numbers")]
    NotANumber,
    #[error("the tokenizer failed")]
    Tokenizer(#[source] tokenizers::Error),
    #[error("a step of the model failed")]
    StepFailed,
    #[error("a worker panicked")]
    WorkerPanicked,
}

impl From<kernels::NoMemory> for Error {
    fn from(error: kernels::NoMemory) -> Self {
        Error::Setup {
            part: "memory for weights, or for keys and values",
            source: error.0.into(),
        }
    }
}

impl Error {
    /// A model file that can be read but not used.
    pub fn model_file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Error::ModelFile {
            path: path.into(),
            reason: reason.into(),
        }
    }

    /// A route that the configuration should not have.
    pub fn route(reason: impl Into<String>) -> Self {
        Error::Route {
            reason: reason.into(),
        }
    }

    /// How a job ended, for the log.
    pub fn outcome<T>(result: &Result<T, Error>) -> &'static str {
        match result {
            Ok(_) => "finished",
            Err(Error::Cancelled) => "cancelled",
            Err(Error::DeadlineExceeded) => "deadline exceeded",
            Err(_) => "failed",
        }
    }

    /// The status code that the contract gives this failure.
    fn code(&self) -> Code {
        match self {
            Error::InvalidRequest(_)
            | Error::ContextExceeded { .. }
            | Error::ConversationRefused
            | Error::AdapterUnusable { .. }
            | Error::AdapterRoom { .. }
            | Error::ConstraintRefused { .. }
            | Error::UpstreamRejected { .. }
            | Error::UpstreamLacks { .. }
            | Error::ChunkBudget { .. } => Code::InvalidArgument,
            Error::ConstraintUnfinished { .. } => Code::OutOfRange,
            Error::AdapterOutdated { .. } | Error::RoutedTwice { .. } => Code::FailedPrecondition,
            Error::AdapterInTransit { .. } => Code::Aborted,
            Error::UpstreamUnavailable { .. } | Error::UpstreamBroke { .. } => Code::Unavailable,
            Error::ModelNotFound { .. } | Error::AdapterNotFound { .. } => Code::NotFound,
            Error::Unimplemented { .. } => Code::Unimplemented,
            Error::QueueFull { .. } | Error::AdaptersBusy { .. } => Code::ResourceExhausted,
            Error::Starting | Error::Stopping => Code::Unavailable,
            Error::DeadlineExceeded => Code::DeadlineExceeded,
            Error::Cancelled => Code::Cancelled,
            _ => Code::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error.code() {
            // The log has the cause; the client learns no paths or internals.
            Code::Internal => {
                tracing::error!(error = &error as &dyn std::error::Error, "request failed");
                Status::internal("internal error, see the log of the sidecar")
            }
            code => {
                let mut status = Status::new(code, error.to_string());
                let metadata = status.metadata_mut();
                match error {
                    Error::QueueFull { retry_after } | Error::AdaptersBusy { retry_after } => {
                        let milliseconds = MetadataValue::from(retry_after.as_millis() as u64);
                        metadata.insert("retry-after-ms", milliseconds);
                    }
                    Error::AdapterInTransit { .. } => {
                        metadata.insert("retry-after-ms", MetadataValue::from(200));
                    }
                    Error::ContextExceeded { .. } => {
                        metadata.insert(CONTEXT_EXCEEDED, MetadataValue::from_static("1"));
                    }
                    Error::AdapterNotFound { name } => {
                        if let Ok(name) = MetadataValue::try_from(name) {
                            metadata.insert(MISSING_ADAPTER, name);
                        }
                    }
                    _ => {}
                }
                status
            }
        }
    }
}
