//! Typed client of the sidecar. Every call has a deadline; dropping a call's future cancels it.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::wire::generate_response::Event;
use crate::wire::inference_service_client::InferenceServiceClient;
use crate::{limits, model, wire};

/// Metadata of NOT_FOUND: the adapter that the client should send.
pub const MISSING_ADAPTER: &str = "missing-adapter";

/// Metadata of INVALID_ARGUMENT: prompt and answer do not fit the model's window.
pub const CONTEXT_EXCEEDED: &str = "context-exceeded";

/// Why a call failed, as far as a caller can act on it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// Nobody answers on the socket, or the server is starting or stopping.
    #[error("could not reach the inference sidecar")]
    Unavailable { detail: String },
    /// The connection broke in the middle of a call, as it does when the server dies of it.
    #[error("the connection to the inference sidecar broke")]
    Disconnected { detail: String },
    /// The deadline passed.
    #[error("the inference sidecar did not answer in time")]
    DeadlineExceeded,
    /// The queue is full.
    #[error("the inference sidecar is busy")]
    Overloaded { retry_after_ms: Option<u64> },
    /// No such model.
    #[error("{0}")]
    NotFound(String),
    /// The adapter is not loaded there: send it and try again.
    #[error("the inference sidecar lacks adapter \"{name}\"")]
    AdapterMissing { name: String },
    /// Another client sends the same adapter: wait and ask again.
    #[error("adapter is being sent by another session")]
    AdapterBusy { retry_after_ms: Option<u64> },
    /// A newer generation of the adapter is loaded there.
    #[error("the inference sidecar has a newer generation of the adapter")]
    AdapterOutdated,
    /// `tokens_max` was reached before the text obeyed its constraint.
    #[error("{0}")]
    ConstraintUnfinished(String),
    /// Prompt and answer do not fit the model's window.
    #[error("{0}")]
    ContextExceeded(String),
    /// A limit of the contract is broken.
    #[error("{0}")]
    InvalidRequest(String),
    /// Anything else: a bug on one of the two sides.
    #[error("the inference sidecar failed")]
    Failed { detail: String },
}

/// A connection to one sidecar. Cheap to make; not shared between threads of a backend. A clone uses the same connection.
#[derive(Clone)]
pub struct SidecarClient {
    inner: InferenceServiceClient<Channel>,
}

/// What a generation sends, in this order: one `Started`, texts, one `Finished`.
pub struct Generation {
    stream: tonic::Streaming<wire::GenerateResponse>,
}

impl SidecarClient {
    /// Connects to the Unix socket at `socket`, within `connect_timeout`.
    pub async fn connect(socket: &Path, connect_timeout: Duration) -> Result<Self, ClientError> {
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|error| {
                ClientError::Unavailable {
                    detail: error.to_string(),
                }
            })?;
        let channel = tokio::time::timeout(connect_timeout, endpoint.connect())
            .await
            .map_err(|_| ClientError::Unavailable {
                detail: format!("No answer within {} ms.", connect_timeout.as_millis()),
            })?
            .map_err(|error| ClientError::Unavailable {
                detail: root_cause(&error),
            })?;
        let inner = InferenceServiceClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_SIZE_MAX)
            .max_encoding_message_size(limits::MESSAGE_SIZE_MAX);
        Ok(Self { inner })
    }

    /// State and load of the server.
    pub async fn status(
        &mut self,
        deadline: Duration,
    ) -> Result<wire::GetStatusResponse, ClientError> {
        let request = with_deadline(wire::GetStatusRequest {}, deadline);
        answer(deadline, self.inner.get_status(request)).await
    }

    /// The models it serves.
    pub async fn models(&mut self, deadline: Duration) -> Result<Vec<wire::Model>, ClientError> {
        let request = with_deadline(wire::ListModelsRequest {}, deadline);
        Ok(answer(deadline, self.inner.list_models(request))
            .await?
            .models)
    }

    /// Tokens of each text, special tokens not counted.
    pub async fn count_tokens(
        &mut self,
        model: model::ModelChoice,
        texts: model::TextBatch,
        deadline: Duration,
    ) -> Result<Vec<u32>, ClientError> {
        let request = wire::CountTokensRequest {
            model: model.into(),
            texts: texts.into_inner(),
        };
        let request = with_deadline(request, deadline);
        Ok(answer(deadline, self.inner.count_tokens(request))
            .await?
            .token_counts)
    }

    /// Pieces of a text that fit a token budget.
    pub async fn chunk(
        &mut self,
        request: model::ChunkingRequest,
        deadline: Duration,
    ) -> Result<Vec<wire::Chunk>, ClientError> {
        let request = with_deadline(request.into(), deadline);
        Ok(answer(deadline, self.inner.chunk(request)).await?.chunks)
    }

    /// One embedding or one error per text.
    pub async fn embed(
        &mut self,
        request: model::EmbeddingRequest,
        deadline: Duration,
    ) -> Result<wire::EmbedResponse, ClientError> {
        let text_count = request.texts.as_slice().len();
        let request = with_deadline(request.into(), deadline);
        let response: wire::EmbedResponse = answer(deadline, self.inner.embed(request)).await?;
        if response.embeddings.len() != text_count {
            let detail = format!(
                "Got {} embeddings for {text_count} texts.",
                response.embeddings.len()
            );
            return Err(ClientError::Failed { detail });
        }
        Ok(response)
    }

    /// One score per passage.
    pub async fn rerank(
        &mut self,
        request: model::RerankingRequest,
        deadline: Duration,
    ) -> Result<wire::RerankResponse, ClientError> {
        let passage_count = request.passages.as_slice().len();
        let request = with_deadline(request.into(), deadline);
        let response: wire::RerankResponse = answer(deadline, self.inner.rerank(request)).await?;
        if response.scores.len() != passage_count {
            let detail = format!(
                "Got {} scores for {passage_count} passages.",
                response.scores.len()
            );
            return Err(ClientError::Failed { detail });
        }
        Ok(response)
    }

    /// Starts a generation; `deadline` covers the whole stream.
    pub async fn generate(
        &mut self,
        request: model::GenerationRequest,
        deadline: Duration,
    ) -> Result<Generation, ClientError> {
        let request = with_deadline(request.into(), deadline);
        let stream = answer(deadline, self.inner.generate(request)).await?;
        Ok(Generation { stream })
    }

    /// Sends an adapter in parts as they come, each of at most
    /// [`limits::ADAPTER_PART_BYTES_MAX`] bytes; returns the generation that is loaded then.
    pub async fn load_adapter(
        &mut self,
        header: model::AdapterHeader,
        parts: impl Iterator<Item = Vec<u8>> + Send + 'static,
        deadline: Duration,
    ) -> Result<u64, ClientError> {
        self.stream_adapter(header, tokio_stream::iter(parts), deadline)
            .await
    }

    /// Like [`Self::load_adapter`], for parts that are still being read: they end when the sender is dropped.
    pub async fn load_adapter_as_read(
        &mut self,
        header: model::AdapterHeader,
        parts: mpsc::Receiver<Vec<u8>>,
        deadline: Duration,
    ) -> Result<u64, ClientError> {
        self.stream_adapter(header, ReceiverStream::new(parts), deadline)
            .await
    }

    async fn stream_adapter(
        &mut self,
        header: model::AdapterHeader,
        parts: impl Stream<Item = Vec<u8>> + Send + 'static,
        deadline: Duration,
    ) -> Result<u64, ClientError> {
        use wire::load_adapter_request::Part;
        let header = tokio_stream::once(Part::Header(header.into()));
        let messages = header.chain(parts.map(Part::Content));
        let messages = messages.map(|part| wire::LoadAdapterRequest { part: Some(part) });
        let request = with_deadline(messages, deadline);
        Ok(answer(deadline, self.inner.load_adapter(request))
            .await?
            .generation)
    }

    /// A document as Markdown, or why it has none.
    pub async fn read_document(
        &mut self,
        header: model::DocumentHeader,
        content: Vec<u8>,
        deadline: Duration,
    ) -> Result<wire::ReadDocumentResponse, ClientError> {
        use wire::read_document_request::Part;
        let header = tokio_stream::once(Part::Header(header.into()));
        let parts: Vec<Part> = content
            .chunks(limits::DOCUMENT_PART_BYTES)
            .map(|part| Part::Content(part.to_vec()))
            .collect();
        let messages = header.chain(tokio_stream::iter(parts));
        let messages = messages.map(|part| wire::ReadDocumentRequest { part: Some(part) });
        let request = with_deadline(messages, deadline);
        answer(deadline, self.inner.read_document(request)).await
    }

    /// Drops an adapter from the sidecar's memory.
    pub async fn unload_adapter(
        &mut self,
        name: &str,
        deadline: Duration,
    ) -> Result<(), ClientError> {
        let request = wire::UnloadAdapterRequest { name: name.into() };
        answer(
            deadline,
            self.inner.unload_adapter(with_deadline(request, deadline)),
        )
        .await?;
        Ok(())
    }

    /// The adapters in the sidecar's memory.
    pub async fn adapters(
        &mut self,
        deadline: Duration,
    ) -> Result<Vec<wire::Adapter>, ClientError> {
        let request = with_deadline(wire::ListAdaptersRequest {}, deadline);
        Ok(answer(deadline, self.inner.list_adapters(request))
            .await?
            .adapters)
    }
}

impl Generation {
    /// The next event, or None after the last.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        Ok(self
            .stream
            .message()
            .await?
            .and_then(|response| response.event))
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let detail = status.message().to_owned();
        match status.code() {
            Code::Unavailable => ClientError::Unavailable { detail },
            Code::DeadlineExceeded => ClientError::DeadlineExceeded,
            // tonic reports a passed `grpc-timeout` of its own as CANCELLED.
            Code::Cancelled => ClientError::DeadlineExceeded,
            Code::ResourceExhausted => ClientError::Overloaded {
                retry_after_ms: retry_after_ms(&status),
            },
            Code::Aborted => ClientError::AdapterBusy {
                retry_after_ms: retry_after_ms(&status),
            },
            Code::FailedPrecondition => ClientError::AdapterOutdated,
            Code::NotFound => match status.metadata().get(MISSING_ADAPTER) {
                Some(name) => ClientError::AdapterMissing {
                    name: name.to_str().unwrap_or_default().to_owned(),
                },
                None => ClientError::NotFound(detail),
            },
            Code::OutOfRange => ClientError::ConstraintUnfinished(detail),
            Code::InvalidArgument => match status.metadata().contains_key(CONTEXT_EXCEEDED) {
                true => ClientError::ContextExceeded(detail),
                false => ClientError::InvalidRequest(detail),
            },
            // It arrives as UNKNOWN with a transport error.
            Code::Unknown if std::error::Error::source(&status).is_some() => {
                ClientError::Disconnected {
                    detail: root_cause(&status),
                }
            }
            code => ClientError::Failed {
                detail: format!("{code:?}: {detail}"),
            },
        }
    }
}

fn retry_after_ms(status: &Status) -> Option<u64> {
    let value = status.metadata().get("retry-after-ms")?;
    value.to_str().ok()?.parse().ok()
}

fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

async fn answer<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(response) => Ok(response?.into_inner()),
        Err(_) => Err(ClientError::DeadlineExceeded),
    }
}

/// The innermost cause, as a sentence for an error's detail.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{cause}.")
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
