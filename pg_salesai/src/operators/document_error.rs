//! Why a document has no value.

use proto::client::ClientError;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    #[error(transparent)]
    Sidecar(#[from] ClientError),
    /// It has more bytes than a conversation may have.
    #[error("the document is longer than {0} bytes")]
    TooLong(usize),
    #[error("the model gave no answer")]
    NoAnswer,
    /// A text of many pieces, of which the model makes no shorter ones.
    #[error("the document does not get shorter")]
    NotShorter,
}

impl DocumentError {
    /// True when another document might have a value where this one has none.
    pub fn is_of_document(&self) -> bool {
        match self {
            Self::Sidecar(error) => matches!(
                error,
                ClientError::ContextExceeded(_) | ClientError::ConstraintUnfinished(_)
            ),
            Self::TooLong(_) | Self::NoAnswer | Self::NotShorter => true,
        }
    }
}
