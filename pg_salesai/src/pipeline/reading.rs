//! The text of a document, by the sidecar.

use proto::client::ClientError;
use proto::model::DocumentHeader;
use proto::wire::{DocumentProblem, ReadDocumentResponse};

use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// A document as the queue hands it out.
pub struct JobDocument {
    pub file_name: String,
    pub media_type: String,
    pub content: Vec<u8>,
}

/// Its text, or why it has none.
pub enum Reading {
    Text(ReadDocumentResponse),
    /// In words, none of the document's.
    Problem(String),
}

pub fn read(document: JobDocument, deadline: Deadline) -> Result<Reading, Error> {
    let header = DocumentHeader {
        file_name: document.file_name,
        media_type: document.media_type,
    };
    let response = sidecar::call(deadline, async |client| {
        client
            .read_document(header, document.content, deadline.remaining())
            .await
    })?;
    match response.problem() {
        DocumentProblem::Unspecified if response.markdown.is_empty() => {
            let detail = "It sent neither a text nor a problem.".to_owned();
            Err(ClientError::Failed { detail }.into())
        }
        DocumentProblem::Unspecified => Ok(Reading::Text(response)),
        _ => Ok(Reading::Problem(response.problem_detail)),
    }
}
