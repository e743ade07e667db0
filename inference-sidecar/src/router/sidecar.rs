//! Another sidecar as an upstream: gRPC over mutual TLS or a Unix socket.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use proto::client::MISSING_ADAPTER;
use proto::model::{GenerationRequest, ModelChoice};
use proto::wire::generate_response::Event;
use proto::wire::inference_service_client::InferenceServiceClient;
use proto::{limits, wire};
use tokio_stream::Stream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::address::Address;
use super::config::UpstreamConfig;
use super::failure::Failure;
use super::tls;
use crate::error::Error;

/// Metadata of a request that a router sent: it is not routed a second time, so that two sidecars that
/// name each other do not pass it around for ever.
pub const ROUTED: &str = "x-salesai-routed";

/// How often an open connection is probed when nothing comes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// `grpc-timeout` is rounded down, so that it may pass a little before our deadline.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(50);

/// A connection that is made on first use and again when it is lost.
pub(super) struct SidecarUpstream {
    channel: Channel,
    model: String,
}

/// An answer that is coming.
pub(super) struct SidecarAnswer {
    stream: Streaming<wire::GenerateResponse>,
    deadline: Option<Instant>,
    model: String,
    upstream: String,
    is_started: bool,
    is_finished: bool,
}

impl SidecarUpstream {
    /// Reads the files of the upstream; connects to nothing yet.
    pub fn new(address: &Address, upstream: &UpstreamConfig) -> Result<Self, Error> {
        let endpoint = match address {
            Address::Unix(path) => Endpoint::from_shared(format!("unix://{}", path.display()))?,
            Address::Tcp(tcp) if tcp.has_tls && tcp.path.is_empty() => {
                Endpoint::from_shared(format!("https://{}:{}", tcp.host, tcp.port))?
                    .tls_config(tls::sidecar_config(upstream)?)?
            }
            Address::Tcp(_) => {
                return Err(Error::route(
                    "a sidecar is reached by \"https://host:port\" or \"unix:/path\"",
                ));
            }
        };
        let channel = endpoint
            .connect_timeout(upstream.patience().connect)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .tcp_nodelay(true)
            .connect_lazy();
        Ok(Self {
            channel,
            model: upstream.model.clone(),
        })
    }

    /// Sends the request; `names` are ours for the model and for the upstream.
    pub async fn ask(
        &self,
        request: GenerationRequest,
        deadline: Option<Instant>,
        names: (&str, &str),
    ) -> Result<SidecarAnswer, Failure> {
        let request = GenerationRequest {
            model: ModelChoice::Named(self.model.clone()),
            ..request
        };
        let mut message = Request::new(wire::GenerateRequest::from(request));
        message
            .metadata_mut()
            .insert(ROUTED, MetadataValue::from_static("1"));
        if let Some(deadline) = deadline {
            message.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let mut client = InferenceServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::MESSAGE_SIZE_MAX)
            .max_encoding_message_size(limits::MESSAGE_SIZE_MAX);
        let stream = client.generate(message).await;
        let stream = stream.map_err(|status| failure(&status, deadline))?;
        Ok(SidecarAnswer {
            stream: stream.into_inner(),
            deadline,
            model: names.0.to_owned(),
            upstream: names.1.to_owned(),
            is_started: false,
            is_finished: false,
        })
    }

    /// Asks the standard health service.
    pub async fn check_health(&self, limit: Duration) -> Result<(), Failure> {
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(limit);
        let answer = HealthClient::new(self.channel.clone())
            .check(request)
            .await
            .map_err(|status| failure(&status, None))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            _ => Err(Failure::Connect("the sidecar is not ready".into())),
        }
    }
}

impl SidecarAnswer {
    /// The next event; None after the last.
    pub fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Failure>>> {
        if self.is_finished {
            return Poll::Ready(None);
        }
        let event = match ready!(Pin::new(&mut self.stream).poll_next(context)) {
            Some(Ok(wire::GenerateResponse { event: Some(event) })) => self.checked(event),
            // An event of a newer version.
            Some(Ok(_)) => Err(Failure::Broken("an event that we do not know")),
            Some(Err(status)) => Err(failure(&status, self.deadline)),
            None => Err(Failure::Broken("the answer has no end")),
        };
        self.is_finished |= event.is_err();
        Poll::Ready(Some(event))
    }

    /// One `Started`, then others, then one `Finished`.
    fn checked(&mut self, event: Event) -> Result<Event, Failure> {
        let is_first = !std::mem::replace(&mut self.is_started, true);
        match event {
            Event::Started(started) if is_first => Ok(Event::Started(wire::GenerateStarted {
                model: self.model.clone(),
                upstream: self.upstream.clone(),
                ..started
            })),
            Event::Started(_) => Err(Failure::Broken("a second beginning")),
            _ if is_first => Err(Failure::Broken("an answer without a beginning")),
            Event::Finished(finished) => {
                self.is_finished = true;
                Ok(Event::Finished(finished))
            }
            Event::Text(_) | Event::Token(_) => Ok(event),
        }
    }
}

/// What a status of another sidecar means; its messages hold no texts of requests.
fn failure(status: &Status, deadline: Option<Instant>) -> Failure {
    let is_late = deadline.is_some_and(|deadline| Instant::now() + CLOCK_TOLERANCE >= deadline);
    let metadata = |name| {
        status
            .metadata()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    match status.code() {
        Code::ResourceExhausted | Code::Aborted => Failure::Overloaded {
            retry_after: metadata("retry-after-ms")
                .and_then(|value| value.parse().ok())
                .map(Duration::from_millis),
        },
        Code::NotFound => match metadata(MISSING_ADAPTER) {
            Some(name) => Failure::AdapterMissing { name: name.into() },
            None => Failure::Setup("NOT_FOUND".into()),
        },
        Code::InvalidArgument | Code::FailedPrecondition => Failure::Rejected {
            detail: Some(status.message().to_owned()),
        },
        Code::OutOfRange => Failure::ConstraintUnfinished,
        // tonic reports a passed `grpc-timeout` of its own as CANCELLED, and so it does a connection that
        // was closed, by a server that refuses our certificate for instance.
        Code::DeadlineExceeded | Code::Cancelled if is_late => Failure::Deadline,
        Code::Cancelled => Failure::Broken("the call was cancelled there"),
        Code::DeadlineExceeded => Failure::Broken("a deadline that was not ours"),
        Code::Unavailable => Failure::Connect("UNAVAILABLE".into()),
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
            Failure::Setup(format!("{:?}", status.code()))
        }
        _ => Failure::Broken("an internal error there"),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a status blames the upstream only for what it did, and a closed connection is not mistaken
    //! for a passed deadline.

    use super::*;

    #[test]
    fn statuses() {
        let now = Instant::now();
        let later = Some(now + Duration::from_secs(60));
        let check = |code, deadline, is_fault, may_fail_over| {
            let failure = failure(&Status::new(code, "text"), deadline);
            let verdict = (failure.is_fault(), failure.may_fail_over());
            assert_eq!(verdict, (is_fault, may_fail_over), "{code:?} {failure:?}");
            failure
        };
        for code in [Code::Cancelled, Code::DeadlineExceeded] {
            assert_eq!(check(code, Some(now), false, false), Failure::Deadline);
            check(code, later, true, true);
            check(code, None, true, true);
        }
        for code in [
            Code::Unavailable,
            Code::Internal,
            Code::Unknown,
            Code::NotFound,
        ] {
            check(code, later, true, true);
        }
        for code in [Code::ResourceExhausted, Code::Aborted] {
            check(code, later, false, true);
        }
        for code in [Code::InvalidArgument, Code::OutOfRange] {
            check(code, later, false, false);
        }
    }

    #[test]
    fn metadata() {
        let mut busy = Status::new(Code::ResourceExhausted, "");
        busy.metadata_mut()
            .insert("retry-after-ms", MetadataValue::from(250));
        let retry_after = Some(Duration::from_millis(250));
        assert_eq!(failure(&busy, None), Failure::Overloaded { retry_after });
        let mut missing = Status::new(Code::NotFound, "");
        missing
            .metadata_mut()
            .insert(MISSING_ADAPTER, MetadataValue::from_static("tone"));
        let name = "tone".to_owned();
        assert_eq!(failure(&missing, None), Failure::AdapterMissing { name });
    }
}
