//! What clients send in parts: a header, then contents.

use std::time::Duration;

use proto::model::InvalidRequest;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::error::Error;

/// How long a sender may be silent: it keeps others from sending the same adapter, or holds a document's place.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The next part, or None after the last.
pub(super) async fn next_part<M, P>(
    messages: &mut (impl Stream<Item = Result<M, Status>> + Unpin),
    part_of: impl FnOnce(M) -> Option<P>,
) -> Result<Option<P>, Status> {
    let next = tokio::time::timeout(SILENCE_MAX, messages.next());
    let Some(message) = next.await.map_err(|_| Error::DeadlineExceeded)? else {
        return Ok(None);
    };
    let part = part_of(message?).ok_or_else(out_of_order)?;
    Ok(Some(part))
}

pub(super) fn out_of_order() -> Error {
    let (field, expected) = ("part", "the header first, contents after it");
    InvalidRequest::Value { field, expected }.into()
}
