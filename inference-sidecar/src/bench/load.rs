//! Sends the requests and takes the times.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context;
use proto::client::{ClientError, SidecarClient};
use proto::wire::generate_response::Event;
use tokio::task::JoinSet;

use super::BenchArguments;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A request that is refused this often counts as failed.
const REFUSALS_MAX: u32 = 1000;
/// Pause after a refusal that came without a hint.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after a refusal, whatever the hint says.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The times of one complete answer.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// From sending the request to the first piece of text, or to the end when there was none.
    pub first_token: Duration,
    /// Between pieces of text, which mostly are tokens.
    pub gaps: Vec<Duration>,
    pub total: Duration,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
}

/// All that happened.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub samples: Vec<Sample>,
    /// Times that the server said it is busy; the request was sent again later.
    pub refusals: u32,
    pub failures: Vec<String>,
    pub elapsed: Duration,
}

/// Sends all requests, `concurrency` of them at a time.
pub(super) async fn drive(arguments: &BenchArguments, socket: &Path) -> anyhow::Result<Outcome> {
    // One connection first, so that a server that is not there is one clear error.
    connect(socket).await?;
    let next = Arc::new(AtomicU32::new(0));
    let arguments = Arc::new(arguments.clone());
    let socket: Arc<Path> = socket.into();
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..arguments.concurrency.min(arguments.requests) {
        let (arguments, socket, next) = (arguments.clone(), socket.clone(), next.clone());
        callers.spawn(async move { call(&arguments, &socket, &next).await });
    }
    let mut all = Outcome::default();
    while let Some(joined) = callers.join_next().await {
        let one = joined.context("a caller panicked")?;
        all.samples.extend(one.samples);
        all.failures.extend(one.failures);
        all.refusals += one.refusals;
    }
    all.elapsed = start.elapsed();
    Ok(all)
}

async fn connect(socket: &Path) -> anyhow::Result<SidecarClient> {
    SidecarClient::connect(socket, CONNECT_TIMEOUT)
        .await
        .with_context(|| format!("connect to {socket:?}"))
}

/// One caller: takes the next request until there is none.
async fn call(arguments: &BenchArguments, socket: &Path, next: &AtomicU32) -> Outcome {
    let mut outcome = Outcome::default();
    let mut client = match connect(socket).await {
        Ok(client) => client,
        Err(error) => {
            outcome.failures.push(format!("{error:#}"));
            return outcome;
        }
    };
    loop {
        let index = next.fetch_add(1, Relaxed);
        if index >= arguments.requests {
            return outcome;
        }
        match answer(&mut client, arguments, index, &mut outcome.refusals).await {
            Ok(sample) => outcome.samples.push(sample),
            Err(error) => outcome.failures.push(error.to_string()),
        }
    }
}

/// One answer; waits and asks again while the server is busy.
async fn answer(
    client: &mut SidecarClient,
    arguments: &BenchArguments,
    index: u32,
    refusals: &mut u32,
) -> Result<Sample, ClientError> {
    for _ in 0..REFUSALS_MAX {
        match attempt(client, arguments, index).await {
            Err(ClientError::Overloaded { retry_after_ms }) => {
                *refusals += 1;
                let hint = retry_after_ms.map(Duration::from_millis);
                tokio::time::sleep(hint.unwrap_or(RETRY_PAUSE).min(RETRY_PAUSE_MAX)).await;
            }
            ended => return ended,
        }
    }
    Err(ClientError::Overloaded {
        retry_after_ms: None,
    })
}

async fn attempt(
    client: &mut SidecarClient,
    arguments: &BenchArguments,
    index: u32,
) -> Result<Sample, ClientError> {
    let deadline = Duration::from_secs(arguments.timeout.into());
    let sent = Instant::now();
    let mut stream = client.generate(arguments.request(index), deadline).await?;
    let (mut first_token, mut last_piece) = (None, sent);
    let (mut gaps, mut prompt_tokens, mut cached_tokens) = (Vec::new(), 0, 0);
    while let Some(event) = stream.next().await? {
        match event {
            Event::Started(started) => {
                prompt_tokens = started.prompt_tokens;
                cached_tokens = started.cached_tokens;
            }
            Event::Text(_) => {
                let now = Instant::now();
                match first_token {
                    None => first_token = Some(now - sent),
                    Some(_) => gaps.push(now - last_piece),
                }
                last_piece = now;
            }
            Event::Token(_) => {}
            Event::Finished(finished) => {
                let total = sent.elapsed();
                return Ok(Sample {
                    first_token: first_token.unwrap_or(total),
                    gaps,
                    total,
                    prompt_tokens,
                    cached_tokens,
                    completion_tokens: finished.completion_tokens,
                });
            }
        }
    }
    let detail = "the stream ended without a last event".to_owned();
    Err(ClientError::Failed { detail })
}
