//! The answer of an OpenAI-compatible server: status, headers, then a stream of chunks.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};
use proto::wire::generate_response::Event;

use super::chat_stream::{ChatExpectation, ChatStream};
use super::failure::Failure;
use super::http::{Exchange, HttpClient};
use super::sse::{SseError, SseParser};

/// Bytes of the body per token that was asked for; with 20 alternatives each a chunk has about 3 KiB.
const CHUNK_BYTES_MAX: u64 = 64 << 10;

/// An answer that is coming.
pub(super) struct ChatAnswer {
    exchange: Exchange,
    parser: SseParser,
    stream: ChatStream,
    /// Events that have been read and not given out.
    events: VecDeque<Event>,
    body_bytes_left: u64,
    is_closed: bool,
}

impl ChatAnswer {
    /// Sends the request and reads the head of the answer.
    pub async fn ask(
        client: &HttpClient,
        body: Vec<u8>,
        expectation: ChatExpectation,
    ) -> Result<Self, Failure> {
        let body_bytes_left = (u64::from(expectation.tokens_max) + 16) * CHUNK_BYTES_MAX;
        let stream = ChatStream::new(expectation);
        let exchange = client.post("/v1/chat/completions", body).await?;
        check_head(&exchange.response)?;
        Ok(Self {
            exchange,
            parser: SseParser::default(),
            stream,
            events: VecDeque::new(),
            body_bytes_left,
            is_closed: false,
        })
    }

    /// The next event; None after the last.
    pub fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Failure>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.is_closed || self.stream.is_complete() {
                return Poll::Ready(None);
            }
            let read = match ready!(self.exchange.poll_body(context)) {
                Some(Ok(bytes)) => self.read(&bytes),
                Some(Err(failure)) => Err(failure),
                None => self.stream.end(&mut self.events),
            };
            if let Err(failure) = read {
                self.is_closed = true;
                self.events.clear();
                return Poll::Ready(Some(Err(failure)));
            }
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.body_bytes_left = self
            .body_bytes_left
            .checked_sub(bytes.len() as u64)
            .ok_or(Failure::Broken("a longer body than was asked for"))?;
        let mut chunks = VecDeque::new();
        self.parser
            .push(bytes, &mut chunks)
            .map_err(|error| match error {
                SseError::TooLong => Failure::Broken("an event that is too long"),
                SseError::NotUtf8 => Failure::Broken("text that is not UTF-8"),
            })?;
        for chunk in chunks {
            self.stream.push(&chunk, &mut self.events)?;
            if self.stream.is_complete() {
                break;
            }
        }
        Ok(())
    }
}

/// A status other than 200 or a body that is no event stream is a failure. The body of an error is not
/// read: it may quote the request.
fn check_head<T>(response: &Response<T>) -> Result<(), Failure> {
    let status = response.status();
    match status {
        StatusCode::OK if is_event_stream(response.headers()) => Ok(()),
        StatusCode::OK => Err(Failure::Broken("the answer is not an event stream")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Err(Failure::Overloaded {
                retry_after: retry_after(response.headers()),
            })
        }
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Rejected { detail: None }),
        _ if status.is_server_error() => Err(Failure::Broken("an internal error there")),
        // 401, 403, 404 and redirects, which are not followed.
        _ => Err(Failure::Setup(format!("HTTP {}", status.as_u16()))),
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let media_type = value.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

/// `Retry-After` in seconds; the form with a date is not used by these servers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
