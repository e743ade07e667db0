//! `/metrics`, `/health` and `/ready` over HTTP/1.1: a few small answers to few scrapers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use proto::wire::ServerState;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::Metrics;
use crate::config::MetricsAddress;
use crate::error::Error;
use crate::socket::{self, SocketFile};

/// Connections that are served together; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16;
/// How long one connection may take; each serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which mostly means that file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The bound address of the metrics.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Binds `address`; a Unix socket gets mode 0600 and is removed when the listener is dropped.
pub async fn bind(address: &MetricsAddress) -> Result<Listener, Error> {
    match address {
        MetricsAddress::Unix(path) => {
            let (listener, file) = socket::bind(path)?;
            Ok(Listener::Unix(listener, file))
        }
        MetricsAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await;
            listener.map(Listener::Tcp).map_err(|source| Error::Setup {
                part: "the address of the metrics",
                source: source.into(),
            })
        }
    }
}

/// Answers for ever; `state` says what `/ready` tells.
pub async fn serve<S>(listener: Listener, metrics: Metrics, state: S)
where
    S: Fn() -> ServerState + Clone + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream: Box<dyn Stream> = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not accept a scraper"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (metrics, state) = (metrics.clone(), state.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &metrics, state());
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let connection = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            // A scraper that leaves or dawdles is its own problem.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    state: ServerState,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
    }
    match path {
        "/metrics" => response(StatusCode::OK, OPENMETRICS, metrics.render()),
        // That it answers is the answer.
        "/health" => response(StatusCode::OK, PLAIN, "alive\n"),
        "/ready" => {
            let status = match state {
                ServerState::Ready => StatusCode::OK,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            response(status, PLAIN, format!("{}\n", state.as_str_name()))
        }
        _ => response(
            StatusCode::NOT_FOUND,
            PLAIN,
            "try /metrics, /health or /ready\n",
        ),
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}
