//! One server that runs a model: how to ask it, and how to see that it lives.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use proto::model::GenerationRequest;
use proto::wire::generate_response::Event;
use tokio::sync::Notify;

use super::address::Address;
use super::chat_answer::ChatAnswer;
use super::chat_stream::ChatExpectation;
use super::config::{Patience, UpstreamConfig, UpstreamKind};
use super::counters::UpstreamCounters;
use super::dialect::{self, Unsupported};
use super::failure::Failure;
use super::http::HttpClient;
use super::sidecar::{SidecarAnswer, SidecarUpstream};
use crate::error::Error;

/// A server and how to speak with it.
pub(super) struct Upstream {
    /// Its address, for clients, log and metrics.
    pub name: String,
    pub config: UpstreamConfig,
    pub patience: Patience,
    pub counters: UpstreamCounters,
    /// Rung when requests have opened the breaker.
    pub taken_out: Notify,
    transport: Transport,
}

enum Transport {
    Http(HttpClient),
    Sidecar(SidecarUpstream),
}

/// A request in the upstream's own words.
pub(super) enum Prepared {
    Http {
        body: Vec<u8>,
        expectation: Box<ChatExpectation>,
    },
    Sidecar(Box<GenerationRequest>),
}

/// An answer that is coming. Dropping it closes the connection or cancels the call.
pub(super) enum Answer {
    Http(Box<ChatAnswer>),
    Sidecar(Box<SidecarAnswer>),
}

impl Upstream {
    /// Checks the configuration and the allow-list, reads the files; connects to nothing yet.
    pub fn new(config: &UpstreamConfig, allowed_hosts: &[String]) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::route(format!("upstream \"{}\": {reason}", config.url));
        let address = Address::parse(&config.url)
            // The address itself is left out: it may hold a password.
            .map_err(|reason| {
                Error::route(format!("an upstream of \"{}\": {reason}", config.model))
            })?;
        config.check().map_err(|reason| refuse(&reason))?;
        if !address.is_allowed(allowed_hosts) {
            return Err(refuse("\"allowed_hosts\" does not name it"));
        }
        let name = address.to_string();
        let transport = match config.kind {
            UpstreamKind::Sidecar => Transport::Sidecar(SidecarUpstream::new(&address, config)?),
            _ => Transport::Http(HttpClient::new(address, config)?),
        };
        Ok(Self {
            name,
            config: config.clone(),
            patience: config.patience(),
            counters: UpstreamCounters::default(),
            taken_out: Notify::new(),
            transport,
        })
    }

    /// Says the request in the upstream's own words, or names what they lack.
    pub fn prepare(
        &self,
        model: &str,
        request: &GenerationRequest,
    ) -> Result<Prepared, Unsupported> {
        match &self.transport {
            Transport::Sidecar(_) => Ok(Prepared::Sidecar(Box::new(request.clone()))),
            Transport::Http(_) => Ok(Prepared::Http {
                body: dialect::body(&self.config, request)?,
                expectation: Box::new(ChatExpectation {
                    model: model.to_owned(),
                    upstream: self.name.clone(),
                    adapter_generation: dialect::adapter_generation(&self.config, request),
                    tokens_max: request.tokens_max,
                    is_constrained: request.constraint.is_some(),
                    has_logprobs: request.top_logprobs > 0,
                }),
            }),
        }
    }

    /// Sends the request; the answer begins with the head of the response.
    pub async fn send(
        &self,
        model: &str,
        prepared: Prepared,
        deadline: Option<Instant>,
    ) -> Result<Answer, Failure> {
        match (&self.transport, prepared) {
            (Transport::Http(client), Prepared::Http { body, expectation }) => {
                let answer = ChatAnswer::ask(client, body, *expectation).await?;
                Ok(Answer::Http(Box::new(answer)))
            }
            (Transport::Sidecar(sidecar), Prepared::Sidecar(request)) => {
                let names = (model, self.name.as_str());
                let answer = sidecar.ask(*request, deadline, names).await?;
                Ok(Answer::Sidecar(Box::new(answer)))
            }
            _ => Err(Failure::Broken("a request prepared for another upstream")),
        }
    }

    /// Asks whether the server can work.
    pub async fn check_health(&self) -> Result<(), Failure> {
        let limit = self.patience.health_interval.max(self.patience.connect);
        let check = async {
            match &self.transport {
                Transport::Http(client) => {
                    let exchange = client.get(dialect::health_path(self.config.kind)).await?;
                    match exchange.response.status() {
                        status if status.is_success() => Ok(()),
                        status => Err(Failure::Setup(status.as_u16().to_string())),
                    }
                }
                Transport::Sidecar(sidecar) => sidecar.check_health(limit).await,
            }
        };
        tokio::time::timeout(limit.min(HEALTH_TIMEOUT_MAX), check)
            .await
            .unwrap_or_else(|_| Err(Failure::Connect("no answer to a health check".into())))
    }
}

/// The longest that a health check may take.
const HEALTH_TIMEOUT_MAX: Duration = Duration::from_secs(10);

impl Answer {
    /// The next event; None after the last.
    pub fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Failure>>> {
        match self {
            Answer::Http(answer) => answer.poll_event(context),
            Answer::Sidecar(answer) => answer.poll_event(context),
        }
    }
}
