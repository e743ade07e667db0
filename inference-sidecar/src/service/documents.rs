//! ReadDocument: bytes in, Markdown out.

use proto::model::{DocumentHeader, InvalidRequest};
use proto::wire::read_document_request::Part;
use proto::{limits, wire};
use tokio_stream::Stream;
use tonic::Status;

use crate::documents::{Outcome, ProblemKind};
use crate::error::Error;
use crate::service::Service;
use crate::service::parts::{next_part, out_of_order};

impl Service {
    pub(super) async fn receive_document(
        &self,
        mut parts: impl Stream<Item = Result<wire::ReadDocumentRequest, Status>> + Unpin,
    ) -> Result<wire::ReadDocumentResponse, Status> {
        let Some(Part::Header(header)) = next_part(&mut parts, |message| message.part).await?
        else {
            return Err(out_of_order().into());
        };
        let header = DocumentHeader::try_from(header).map_err(Error::from)?;
        let documents = &self.shared.documents;
        let _place = documents.admit()?;
        let mut document = Vec::new();
        while let Some(part) = next_part(&mut parts, |message| message.part).await? {
            let Part::Content(content) = part else {
                return Err(out_of_order().into());
            };
            if (document.len() + content.len()) as u64 > limits::DOCUMENT_BYTES_MAX {
                let size = InvalidRequest::Size {
                    field: "content",
                    max: limits::DOCUMENT_BYTES_MAX as usize,
                    bytes: document.len() + content.len(),
                };
                return Err(Error::from(size).into());
            }
            document.extend_from_slice(&content);
        }
        let read = documents.read(&header.file_name, &header.media_type, &document);
        Ok(read.await?.into())
    }
}

impl From<Outcome> for wire::ReadDocumentResponse {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Text {
                format,
                media_type,
                title,
                markdown,
            } => Self {
                format,
                media_type,
                title: title.unwrap_or_default(),
                markdown,
                ..Self::default()
            },
            Outcome::Problem { kind, detail } => {
                let mut response = Self {
                    problem_detail: detail,
                    ..Self::default()
                };
                response.set_problem(match kind {
                    ProblemKind::Encrypted => wire::DocumentProblem::Encrypted,
                    ProblemKind::NoText => wire::DocumentProblem::NoText,
                    ProblemKind::Damaged => wire::DocumentProblem::Damaged,
                    ProblemKind::TooLarge => wire::DocumentProblem::TooLarge,
                    ProblemKind::UnknownFormat => wire::DocumentProblem::UnknownFormat,
                });
                response
            }
        }
    }
}
