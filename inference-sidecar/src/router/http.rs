//! One HTTP/1.1 exchange on a connection of its own: dropping it closes the connection, which is how the
//! servers learn that the caller left. No redirects, no proxies, no pool.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::{Address, TcpAddress};
use super::config::UpstreamConfig;
use super::failure::Failure;
use super::tls;
use crate::error::Error;

/// Longest line and header block of an answer, in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// How to reach an OpenAI-compatible server.
pub(super) struct HttpClient {
    address: Address,
    path: String,
    host: HeaderValue,
    /// `Bearer ...`, marked so that it cannot print.
    authorization: Option<HeaderValue>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    connect_timeout: Duration,
}

/// An answer whose body is still coming.
pub(super) struct Exchange {
    connection: Driver,
    pub response: Response<Incoming>,
}

/// Moves the bytes of a connection; polled by whoever waits for the answer.
struct Driver {
    connection: Pin<Box<http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>>>,
    is_finished: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl HttpClient {
    /// Reads the files of `upstream`; connects to nothing yet.
    pub fn new(address: Address, upstream: &UpstreamConfig) -> Result<Self, Error> {
        let (path, tls) = match &address {
            Address::Unix(_) => (String::new(), None),
            Address::Tcp(tcp) => (tcp.path.clone(), tls_of(tcp, upstream)?),
        };
        let host = match &address {
            Address::Unix(_) => HeaderValue::from_static("localhost"),
            Address::Tcp(tcp) => HeaderValue::from_str(&format!("{}:{}", tcp.host, tcp.port))
                .map_err(|_| Error::route("the host is not usable in a header"))?,
        };
        let authorization = authorization(&address, upstream)?;
        Ok(Self {
            address,
            path,
            host,
            authorization,
            tls,
            connect_timeout: upstream.patience().connect,
        })
    }

    /// Sends a JSON body and waits for the head of the answer.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Exchange, Failure> {
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .body(Full::new(Bytes::from(body)));
        self.exchange(request).await
    }

    /// Asks for a path and waits for the head of the answer.
    pub async fn get(&self, path: &str) -> Result<Exchange, Failure> {
        let request = self.request(Method::GET, path).body(Full::default());
        self.exchange(request).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.path))
            .header(header::HOST, &self.host);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request
    }

    async fn exchange(
        &self,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<Exchange, Failure> {
        let request = request.map_err(|_| Failure::Connect("the path is not usable".into()))?;
        let connect = tokio::time::timeout(self.connect_timeout, self.connect());
        let stream = connect
            .await
            .map_err(|_| Failure::Connect("no connection in time".into()))?
            .map_err(|error| Failure::Connect(error.to_string()))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEADER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failure::Broken("no HTTP connection"))?;
        let mut connection = Driver {
            connection: Box::pin(connection),
            is_finished: false,
        };
        let mut response = std::pin::pin!(sender.send_request(request));
        let response = std::future::poll_fn(|context| {
            connection.poll(context);
            response.as_mut().poll(context)
        });
        let response = response
            .await
            .map_err(|_| Failure::Broken("no HTTP answer"))?;
        Ok(Exchange {
            connection,
            response,
        })
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let tcp = match &self.address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(tcp) => TcpStream::connect((tcp.bare_host(), tcp.port)).await?,
        };
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name.clone(), tcp).await?)
            }
        })
    }
}

impl Exchange {
    /// The next piece of the body, None at its end.
    pub fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            self.connection.poll(context);
            let frame = Pin::new(self.response.body_mut()).poll_frame(context);
            match std::task::ready!(frame) {
                // Trailers say nothing of interest.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(_)) => {
                    return Poll::Ready(Some(Err(Failure::Broken("the connection ended"))));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Driver {
    /// An error shows in the answer or its body.
    fn poll(&mut self, context: &mut Context<'_>) {
        if !self.is_finished {
            self.is_finished = self.connection.as_mut().poll(context).is_ready();
        }
    }
}

fn tls_of(
    tcp: &TcpAddress,
    upstream: &UpstreamConfig,
) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, Error> {
    if !tcp.has_tls {
        if !tcp.is_loopback() {
            tracing::warn!(
                host = tcp.host,
                "requests go to another machine without encryption"
            );
        }
        return Ok(None);
    }
    let name = ServerName::try_from(tcp.bare_host().to_owned())
        .map_err(|_| Error::route("the host is not a name that a certificate can have"))?;
    Ok(Some((tls::http_config(upstream)?, name)))
}

/// The key's header. A key does not leave the machine without encryption.
fn authorization(
    address: &Address,
    upstream: &UpstreamConfig,
) -> Result<Option<HeaderValue>, Error> {
    let Some(path) = &upstream.api_key_file else {
        return Ok(None);
    };
    if matches!(address, Address::Tcp(tcp) if !tcp.has_tls && !tcp.is_loopback()) {
        return Err(Error::route(
            "\"api_key_file\" needs https, or a server on this machine",
        ));
    }
    let key = std::fs::read_to_string(path).map_err(|source| Error::ReadFile {
        path: path.clone(),
        source,
    })?;
    let key = key.trim();
    let header = HeaderValue::from_str(&format!("Bearer {key}"));
    match header {
        Ok(mut header) if !key.is_empty() => {
            header.set_sensitive(true);
            Ok(Some(header))
        }
        _ => Err(Error::route(format!("{path:?} holds no usable key"))),
    }
}
