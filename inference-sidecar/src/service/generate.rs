//! Generate: checks that the request fits, queues it, and streams what the worker sends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::model::GenerationRequest;
use proto::wire;
use proto::wire::generate_response::Event;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Request, Status};

use crate::catalog::{LanguageEntry, ModelCard};
use crate::error::Error;
use crate::scheduler::{GenerationEvent, GenerationJob, GenerationPlan, Sampler};
use crate::service::{Service, request};

/// The stream of one generation. Dropping it tells the worker that the caller has left.
pub struct Events {
    receiver: mpsc::Receiver<Result<GenerationEvent, Error>>,
    card: ModelCard,
    is_complete: bool,
}

impl Service {
    pub(super) async fn start_generation(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Events, Error> {
        let (metadata, _, message) = request.into_parts();
        let request = GenerationRequest::try_from(message)?;
        let entry = self.open_catalog()?.language(&request.model)?;
        let call = request::call(&metadata, &entry.card.name, request.priority);
        if let Some(adapter) = request.adapter {
            return Err(Error::AdapterNotFound { name: adapter.name });
        }
        let plan = self.plan(entry, request).await?;
        let (job, receiver) = GenerationJob::new(call, plan);
        entry.queue.push(job)?;
        Ok(Events {
            receiver,
            card: entry.card.clone(),
            is_complete: false,
        })
    }

    async fn plan(
        &self,
        entry: &LanguageEntry,
        request: GenerationRequest,
    ) -> Result<GenerationPlan, Error> {
        let tokenizer = entry.tokenizer.clone();
        let messages = request.messages;
        let prompt = self.shared.text_pool.run({
            let tokenizer = Arc::clone(&tokenizer);
            move || tokenizer.prompt(&messages)
        });
        let prompt = prompt.await?;
        let completion_tokens = request.tokens_max as usize;
        let tokens_max = entry.card.tokens_max;
        if prompt.is_empty() {
            return Err(Error::ConversationRefused);
        }
        if prompt.len().saturating_add(completion_tokens) > tokens_max {
            let prompt_tokens = prompt.len();
            return Err(Error::ContextExceeded {
                prompt_tokens,
                completion_tokens,
                tokens_max,
            });
        }
        let sampler = Sampler::new(request.sampling, request.top_logprobs);
        let stop = request.stop;
        Ok(GenerationPlan {
            prompt,
            tokens_max: completion_tokens,
            sampler,
            stop,
            tokenizer,
        })
    }
}

impl Stream for Events {
    type Item = Result<wire::GenerateResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_complete {
            return Poll::Ready(None);
        }
        let Poll::Ready(received) = self.receiver.poll_recv(context) else {
            return Poll::Pending;
        };
        let item = match received {
            Some(Ok(event)) => {
                self.is_complete = matches!(event, GenerationEvent::Finished { .. });
                let event = Some(wire_event(event, &self.card));
                Ok(wire::GenerateResponse { event })
            }
            Some(Err(error)) => {
                self.is_complete = true;
                Err(error.into())
            }
            // The worker always sends an end; without one it has died.
            None => {
                self.is_complete = true;
                Err(Error::WorkerPanicked.into())
            }
        };
        Poll::Ready(Some(item))
    }
}

fn wire_event(event: GenerationEvent, card: &ModelCard) -> Event {
    match event {
        GenerationEvent::Started {
            prompt_tokens,
            queue_ms,
            prompt_ms,
        } => Event::Started(wire::GenerateStarted {
            model: card.name.clone(),
            model_sha256: card.sha256.clone(),
            prompt_tokens,
            queue_ms,
            prompt_ms,
            ..Default::default()
        }),
        GenerationEvent::Text(text) => Event::Text(text),
        GenerationEvent::Finished {
            reason,
            completion_tokens,
            completion_ms,
        } => Event::Finished(wire::GenerateFinished {
            reason: reason.into(),
            completion_tokens,
            completion_ms,
        }),
    }
}
