//! What can go wrong, and the one place that says it in PostgreSQL's terms.

use domain::lexical::Damaged;
use domain::prompt_template::TemplateError;
use domain::{EmailError, ParagraphError, TableError, TranscriptError};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use proto::client::ClientError;
use proto::model::InvalidRequest;
use thiserror::Error as ThisError;

use crate::config;
use crate::operators::DocumentError;
use crate::vault::VaultError;

/// Errors of the extension; every variant is something a caller can act on.
#[derive(Debug, ThisError)]
pub enum Error {
    #[error("{message}")]
    Argument {
        message: String,
        hint: Option<&'static str>,
    },
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    #[error(transparent)]
    Email(#[from] EmailError),
    #[error(transparent)]
    Note(#[from] ParagraphError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("the content is not text")]
    NotText,
    #[error(transparent)]
    Sidecar(#[from] ClientError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The sidecar could not embed one of the texts.
    #[error("text {position} cannot be embedded")]
    Embedding { position: usize, reason: String },
    /// Vectors of these weights cannot be compared with those that are stored.
    #[error("model \"{model}\" has other weights than the active embedding set")]
    OtherWeights {
        model: String,
        served: String,
        wanted: String,
    },
    /// An operator has no value for a document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// More than the caller allows; they have different reasons.
    #[error("{failed} of {asked} documents have no result")]
    TooManyFailures {
        failed: usize,
        asked: usize,
        first: String,
    },
    #[error("the inference sidecar serves no {kind} model")]
    NoModel { kind: &'static str },
    /// What calls need of an adapter was gone each time they were ready to begin.
    #[error("adapter \"{name}\" does not stay in the inference sidecar")]
    AdapterUnsettled { name: String },
    #[error("adapter \"{name}\" does not exist")]
    NoAdapter { name: String },
    #[error("adapter \"{name}\" does not belong to this model")]
    AdapterOfOtherModel { name: String, base: String },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("prompt template {version} of \"{task}\" does not exist")]
    NoPromptTemplate { task: &'static str, version: i32 },
    /// A policy hides kinds of personal data from the role.
    #[error("permission denied for whole originals")]
    HiddenKinds,
    #[error(transparent)]
    LexicalIndex(#[from] Damaged),
    #[error("damaged codes of an embedding set")]
    EmbeddingCodes,
    /// The database has a schema of before this library.
    #[error("the schema of pg_salesai is older than its library")]
    OldSchema,
    #[error("could not start a call to the inference sidecar")]
    Runtime(#[from] std::io::Error),
    /// PostgreSQL refused a transaction of a worker's own.
    #[error("{message}")]
    Database {
        code: PgSqlErrorCode,
        message: String,
    },
    /// Nobody wants the answer any more.
    #[error("the request was withdrawn")]
    Withdrawn,
    #[error("a query of the extension failed")]
    Spi(#[from] pgrx::spi::SpiError),
    /// JSON that the extension's own SQL wrote does not have the expected shape.
    #[error("unexpected JSON")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// A bad argument; SQLSTATE 22023.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::Argument {
            message: message.into(),
            hint: None,
        }
    }
}

impl From<InvalidRequest> for Error {
    fn from(error: InvalidRequest) -> Self {
        Self::argument(error.to_string())
    }
}

/// An error as PostgreSQL tells it.
pub struct Report {
    pub code: PgSqlErrorCode,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl Report {
    fn set_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn set_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let report = Report::from(error);
        let error = Self::new(report.code, report.message, pgrx::function_name!());
        let error = report.detail.into_iter().fold(error, Self::set_detail);
        report.hint.into_iter().fold(error, Self::set_hint)
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Argument { hint, .. } => {
                let report =
                    report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message);
                hint.into_iter().fold(report, |report, hint| report.set_hint(hint))
            }
            Error::Transcript(error) => transcript_report(&error, message),
            Error::Email(error) => email_report(&error, message),
            Error::Note(ParagraphError::TooManySegments { .. }) => too_large(message),
            Error::Table(_) => report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
                .set_hint("The first line names the fields; commas separate them, and quotes keep what is between."),
            Error::NotText => report(PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, message)
                .set_hint("salesai.ingest_document reads PDF and office documents."),
            Error::Sidecar(error) => sidecar_report(error, message),
            Error::Vault(error) => vault_report(&error, message),
            Error::Embedding { reason, .. } => {
                report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
                    .set_detail(format!("The sidecar says: {reason}."))
            }
            Error::OtherWeights { served, wanted, .. } => {
                let digits = |sha256: &str| sha256.chars().take(12).collect::<String>();
                report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .set_detail(format!("The sidecar runs {}, the set was made by {}.", digits(&served), digits(&wanted)))
                    .set_hint("Start the sidecar with the weights of the active set. To change to others, serve them under a name of their own and call salesai.reembed.")
            }
            Error::Document(DocumentError::Sidecar(error)) => sidecar_report(error, message),
            Error::Document(_) => report(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, message),
            Error::TooManyFailures { first, .. } => report(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, message)
                .set_detail(first)
                .set_hint("Raise max_error_ratio to take the others, or see each error by salesai.apply_operator."),
            Error::NoModel { .. } => report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
                .set_hint("Start the sidecar with such a model; salesai.sidecar_status lists what it has."),
            Error::AdapterUnsettled { .. } => {
                report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .set_detail("Each time it was sent, it was gone again before the call began.")
                    .set_hint("Try again later, or start the sidecar with room for more adapters.")
            }
            Error::NoAdapter { .. } => report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
                .set_detail("No generation of it is active.")
                .set_hint("salesai.adapters lists the adapters; salesai.activate_adapter makes a generation active."),
            Error::AdapterOfOtherModel { base, .. } => {
                report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
                    .set_detail(format!("It changes model \"{base}\"."))
                    .set_hint("Leave model away: the adapter brings its own.")
            }
            Error::Template(error) => {
                report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
                    .set_hint(error.hint())
            }
            Error::NoPromptTemplate { .. } => report(PgSqlErrorCode::ERRCODE_NO_DATA_FOUND, message)
                .set_hint("salesai.prompt_templates lists them."),
            Error::HiddenKinds => {
                report(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
                    .set_detail("A row of salesai.redaction_policy hides something from this role.")
                    .set_hint("Use salesai.original_segment or salesai.document_text, which leave that out.")
            }
            Error::LexicalIndex(Damaged) => report(PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED, message)
                .set_hint("Make it anew: select salesai.rebuild_lexical_index()."),
            Error::EmbeddingCodes => report(PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED, message)
                .set_hint("Make them anew: select salesai.code_embeddings(id) for its id in salesai.embedding_sets."),
            Error::OldSchema => {
                report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .set_hint("Run alter extension pg_salesai update.")
            }
            Error::Runtime(error) => report(PgSqlErrorCode::ERRCODE_SYSTEM_ERROR, message)
                .set_detail(format!("{error}.")),
            Error::Database { code, .. } => report(code, message),
            Error::Withdrawn => report(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, message),
            Error::Spi(error) => {
                report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).set_detail(error.to_string())
            }
            Error::Json(error) => {
                report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).set_detail(error.to_string())
            }
        }
    }
}

fn report(code: PgSqlErrorCode, message: String) -> Report {
    Report {
        code,
        message,
        detail: None,
        hint: None,
    }
}

fn too_large(message: String) -> Report {
    report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
        .set_hint("Split it and ingest the parts under external ids of their own.")
}

fn transcript_report(error: &TranscriptError, message: String) -> Report {
    match error {
        TranscriptError::TooLong { .. } | TranscriptError::TooManySegments { .. } => {
            too_large(message)
        }
        TranscriptError::Malformed { .. } => report(
            PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            message,
        )
        .set_hint(
            "Export the transcript again, or pass format => 'plain' to take its lines as they are.",
        ),
        TranscriptError::UnknownFormat(_) => {
            report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
                .set_hint("Use auto, vtt, srt, gong or plain.")
        }
        TranscriptError::Empty | TranscriptError::NoSegments => {
            report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
        }
    }
}

fn email_report(error: &EmailError, message: String) -> Report {
    match error {
        EmailError::TooLong { .. } | EmailError::Body(_) => too_large(message),
        EmailError::NotAMessage => {
            report(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION, message).set_hint(
                "Pass the message as it was sent: headers, an empty line, the body (RFC 5322).",
            )
        }
        EmailError::Empty | EmailError::Encrypted => {
            report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
        }
    }
}

fn sidecar_report(error: ClientError, message: String) -> Report {
    match error {
        ClientError::Unavailable { detail } | ClientError::Disconnected { detail } => report(PgSqlErrorCode::ERRCODE_SYSTEM_ERROR, message)
            .set_detail(format!(
                "Socket \"{}\": {detail}",
                config::sidecar_socket().display()
            ))
            .set_hint("Start inference-sidecar or set salesai.sidecar_socket; salesai.doctor() checks all pieces."),
        ClientError::DeadlineExceeded => report(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, message)
            .set_hint("Raise timeout_ms or salesai.timeout_ms, or ask for less."),
        ClientError::Overloaded { retry_after_ms } => {
            let report = report(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, message);
            let report = match retry_after_ms {
                Some(ms) => report.set_detail(format!("Its queue is full; it asks to wait {ms} ms.")),
                None => report.set_detail("Its queue is full."),
            };
            report.set_hint("Try again later, or start the sidecar with a longer queue.")
        }
        ClientError::NotFound(_) => report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
            .set_hint("salesai.sidecar_status lists the models that it serves."),
        ClientError::AdapterMissing { .. } => {
            report(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message).set_hint(
                "Register it by salesai.register_adapter, or name one that the server of the model has.",
            )
        }
        ClientError::AdapterBusy { .. } => report(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, message)
            .set_hint("Try again in a moment."),
        ClientError::AdapterOutdated => {
            report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .set_hint("Try again: another session has just loaded it.")
        }
        ClientError::ConstraintUnfinished(_) => {
            report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .set_hint("Pass a larger max_tokens, or ask for less.")
        }
        ClientError::ContextExceeded(_) => {
            report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .set_hint("Pass a shorter text, for example the chunks of a document, or a smaller max_tokens.")
        }
        ClientError::InvalidRequest(_) => {
            report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
        }
        ClientError::Failed { detail } => {
            report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).set_detail(detail)
        }
    }
}

fn vault_report(error: &VaultError, message: String) -> Report {
    const KEY_HINT: &str = "Put 64 hex digits into a file that only the server's user can read, and name it in salesai.master_key_file.";
    match error {
        VaultError::NoKeyFile | VaultError::KeyFormat | VaultError::KeyPermissions => {
            report(PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR, message).set_hint(KEY_HINT)
        }
        VaultError::KeyUnreadable(cause) => {
            report(PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR, message)
                .set_detail(format!("{cause}."))
                .set_hint(KEY_HINT)
        }
        VaultError::OtherMasterKey => report(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
            .set_hint("Restore the master key that was in use when the original arrived."),
        VaultError::Corrupted => report(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
            .set_detail("The ciphertext, its key or the row it belongs to was changed."),
        VaultError::Compression(cause) => {
            report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).set_detail(format!("{cause}."))
        }
    }
}
