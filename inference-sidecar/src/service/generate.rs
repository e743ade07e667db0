//! Generate: checks that the request fits, queues it, and streams what the worker sends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::model::{AdapterChoice, GenerationRequest, ModelChoice};
use proto::wire;
use proto::wire::generate_response::Event;
use proto::wire::token_logprob::Alternative;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Request, Status};

use crate::catalog::{Catalog, LanguageEntry, ModelCard};
use crate::error::Error;
use crate::router;
use crate::scheduler::{Choice, GenerationEvent, GenerationJob, GenerationPlan, Sampler};
use crate::service::{Service, request};
use crate::text::ChatTokenizer;

/// The stream of one generation. Dropping it tells whoever works on it that the caller has left.
pub enum Events {
    Local(Box<LocalEvents>),
    Routed(Box<router::Generation>),
}

/// What the engine sends.
pub struct LocalEvents {
    receiver: mpsc::Receiver<Result<GenerationEvent, Error>>,
    card: ModelCard,
    adapter_generation: u64,
    tokenizer: Arc<ChatTokenizer>,
    is_complete: bool,
}

impl Service {
    pub(super) async fn start_generation(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Events, Error> {
        let (metadata, _, message) = request.into_parts();
        let request = GenerationRequest::try_from(message)?;
        let catalog = self.open_catalog()?;
        if let Some(model) = self.routed_model(&request.model, catalog) {
            if request::is_routed(&metadata) {
                return Err(Error::RoutedTwice { model });
            }
            let deadline = request::call(&metadata, &model, request.priority).deadline;
            let generation = self.router().generate(&model, request, deadline).await?;
            return Ok(Events::Routed(Box::new(generation)));
        }
        let entry = catalog.language(&request.model)?;
        let call = request::call(&metadata, &entry.card.name, request.priority);
        let plan = self.plan(entry, request).await?;
        let adapter_generation = plan.adapter.as_ref().map_or(0, |a| a.generation);
        let (job, receiver) = GenerationJob::new(call, plan);
        entry.queue.push(job)?;
        Ok(Events::Local(Box::new(LocalEvents {
            receiver,
            card: entry.card.clone(),
            adapter_generation,
            tokenizer: entry.tokenizer.clone(),
            is_complete: false,
        })))
    }

    /// The name of the model if another server runs it. Without a local language model the first
    /// route is the default.
    fn routed_model(&self, choice: &ModelChoice, catalog: &Catalog) -> Option<String> {
        match choice.name() {
            Some(name) => self.router().serves(name).then(|| name.to_owned()),
            None if catalog.language.is_empty() => {
                self.router().models().next().map(|model| model.name)
            }
            None => None,
        }
    }

    async fn plan(
        &self,
        entry: &LanguageEntry,
        request: GenerationRequest,
    ) -> Result<GenerationPlan, Error> {
        let adapter = match &request.adapter {
            Some(AdapterChoice { name, generation }) => {
                let adapters = self.open_adapters()?;
                Some(adapters.get(&entry.card.name, name, *generation)?)
            }
            None => None,
        };
        let tokenizer = entry.tokenizer.clone();
        let (messages, constraint) = (request.messages, request.constraint);
        let prepared = self.shared.text_pool.run({
            let (tokenizer, compiler) = (tokenizer.clone(), entry.constraints.clone());
            move || {
                let constraint = constraint.map(|constraint| compiler.compile(&constraint));
                Ok((tokenizer.prompt(&messages)?, constraint.transpose()?))
            }
        });
        let (prompt, constraint) = prepared.await?;
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
        Ok(GenerationPlan {
            prompt,
            tokens_max: completion_tokens,
            sampler: Sampler::new(request.sampling, request.top_logprobs),
            sends_logprobs: request.top_logprobs > 0,
            constraint,
            stop: request.stop,
            tokenizer,
            adapter,
            caller: request.caller,
        })
    }
}

impl Stream for Events {
    type Item = Result<wire::GenerateResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::Local(events) => Pin::new(events.as_mut()).poll_next(context),
            Self::Routed(generation) => {
                let event = std::task::ready!(Pin::new(generation.as_mut()).poll_next(context));
                Poll::Ready(event.map(|event| match event {
                    Ok(event) => Ok(wire::GenerateResponse { event: Some(event) }),
                    Err(error) => Err(error.into()),
                }))
            }
        }
    }
}

impl Stream for LocalEvents {
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
                let event = Some(self.wire_event(event));
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

impl LocalEvents {
    fn wire_event(&self, event: GenerationEvent) -> Event {
        match event {
            GenerationEvent::Started {
                prompt_tokens,
                cached_tokens,
                queue_ms,
                prompt_ms,
            } => Event::Started(wire::GenerateStarted {
                model: self.card.name.clone(),
                model_sha256: self.card.sha256.clone(),
                prompt_tokens,
                queue_ms,
                prompt_ms,
                adapter_generation: self.adapter_generation,
                cached_tokens,
                upstream: String::new(),
            }),
            GenerationEvent::Token(choice) => Event::Token(self.wire_token(choice)),
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

    fn wire_token(&self, choice: Choice) -> wire::TokenLogprob {
        let content = |id| self.tokenizer.bytes(id).to_vec();
        let alternatives = choice
            .alternatives
            .iter()
            .map(|&(id, logprob)| Alternative {
                id,
                logprob,
                content: content(id),
            });
        wire::TokenLogprob {
            id: choice.token,
            logprob: choice.logprob,
            content: content(choice.token),
            alternatives: alternatives.collect(),
        }
    }
}
