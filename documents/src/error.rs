//! Why a document cannot be read.

use thiserror::Error;

/// A class of failure; none of the messages has words of the document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    #[error("the document is encrypted")]
    Encrypted,
    /// Pages that are pictures, or nothing at all.
    #[error("the document has no text")]
    NoText,
    #[error("the document is damaged: {reason}")]
    Damaged { reason: String },
    #[error("the document is too large: {what} above {limit}")]
    TooLarge { what: &'static str, limit: usize },
    #[error("the format of the document is not known")]
    UnknownFormat,
}

impl DocumentError {
    /// `reason`: words of our own, since those of libraries may hold some of the document's.
    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged {
            reason: reason.into(),
        }
    }
}
