//! Drives the router against two real servers of llama-cpp-python and kills one in the middle of the load.
//! Used by `make test-upstream`: upstreams PYTHON MODEL.gguf

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use inference_sidecar::error::Error;
use inference_sidecar::router::{BreakerState, Router};
use proto::model::{Caller, ChatMessage, GenerationRequest, ModelChoice, Priority, Role, Sampling};
use proto::wire::generate_response::Event;
use serde_json::json;
use tokio_stream::StreamExt;

const CLIENTS: usize = 8;
const TOKENS: u32 = 24;
const PATIENCE: Duration = Duration::from_secs(120);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Complete,
    /// It failed after its first token, as it must when its server dies.
    BrokeOff,
    /// Anything else is a fault of the router.
    Wrong,
}

struct Server {
    child: Child,
    port: u16,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(python), Some(model)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: upstreams PYTHON MODEL.gguf");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&python, &model));
    println!("ok: every check held");
}

async fn run(python: &str, model: &str) {
    let mut first = Server::start(python, model, free_port());
    let second = Server::start(python, model, free_port());
    first.wait();
    second.wait();
    let router = Arc::new(router(&[first.port, second.port]));
    let checks = router.start_health_checks();
    answer(&router, 0, &AtomicU32::new(0)).await;
    let descriptors = open_descriptors();

    let outcomes = load(&router, 3).await;
    println!("both alive: {outcomes:?}");
    assert_eq!(
        outcomes,
        BTreeMap::from([(Outcome::Complete, 3 * CLIENTS as u32)])
    );
    assert!(
        router.status().iter().all(|status| status.requests > 4),
        "both have worked"
    );
    report(&router);

    cancel(&router).await;

    let outcomes = kill_in_the_middle(&router, &mut first).await;
    println!("one killed in the middle: {outcomes:?}");
    assert_eq!(outcomes.get(&Outcome::Wrong), None);
    assert!(
        outcomes[&Outcome::BrokeOff] >= 1,
        "answers that had begun fail clearly"
    );
    let [dead, alive] = router.status().try_into().unwrap();
    assert_eq!(u64::from(outcomes[&Outcome::BrokeOff]), dead.broken_answers);
    assert!(
        dead.failed_requests >= 1,
        "some were healed by the other server"
    );
    assert_eq!(alive.broken_answers + alive.failed_requests, 0);
    report(&router);

    wait("its breaker is open", || {
        breaker(&router) == BreakerState::Open
    })
    .await;
    let before = router.status()[0].requests;
    let outcomes = load(&router, 1).await;
    println!("one dead: {outcomes:?}");
    assert_eq!(
        outcomes,
        BTreeMap::from([(Outcome::Complete, CLIENTS as u32)])
    );
    assert_eq!(
        router.status()[0].requests,
        before,
        "the dead one is not asked"
    );

    let first = Server::start(python, model, first.port);
    first.wait();
    wait("its breaker is half open", || {
        breaker(&router) == BreakerState::HalfOpen
    })
    .await;
    let outcomes = load(&router, 3).await;
    println!("restarted: {outcomes:?}");
    assert_eq!(
        outcomes,
        BTreeMap::from([(Outcome::Complete, 3 * CLIENTS as u32)])
    );
    assert_eq!(breaker(&router), BreakerState::Closed);
    assert!(router.status()[0].requests > before + 4, "it works again");
    report(&router);

    for status in router.status() {
        assert_eq!(
            (status.running, status.outstanding_tokens),
            (0, 0),
            "{status:?}"
        );
    }
    drop(checks);
    wait("no connection is left", || {
        open_descriptors() <= descriptors
    })
    .await;
}

/// A caller that leaves frees the server: it would otherwise be busy for minutes.
async fn cancel(router: &Arc<Router>) {
    let requests = (0..2).map(|index| async move {
        let mut generation = router
            .generate("smol", request(index, 1500), None)
            .await
            .unwrap();
        assert!(matches!(
            generation.next().await,
            Some(Ok(Event::Started(_)))
        ));
    });
    for request in requests {
        request.await;
    }
    let start = Instant::now();
    assert_eq!(
        answer(router, 0, &AtomicU32::new(0)).await,
        Outcome::Complete
    );
    println!(
        "after two cancelled: an answer in {} ms",
        start.elapsed().as_millis()
    );
}

/// Runs the load and kills `server` while it answers.
async fn kill_in_the_middle(router: &Arc<Router>, server: &mut Server) -> BTreeMap<Outcome, u32> {
    let first_name = router.status()[0].upstream.clone();
    let is_killed = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicU32::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (router, begun, is_killed) = (router.clone(), begun.clone(), is_killed.clone());
        let first_name = first_name.clone();
        clients.spawn(async move {
            let mut outcomes = Vec::new();
            while !is_killed.load(SeqCst) || outcomes.is_empty() {
                let texts = AtomicU32::new(0);
                let outcome = answer_watched(&router, client, &texts, |upstream| {
                    if upstream == first_name {
                        begun.fetch_add(1, SeqCst);
                    }
                });
                outcomes.push(outcome.await);
            }
            outcomes
        });
    }
    // In the middle: it has sent pieces of several answers.
    wait("the load runs", || begun.load(SeqCst) > 60).await;
    server.kill();
    is_killed.store(true, SeqCst);
    let outcomes: Vec<_> = clients.join_all().await.concat();
    count(outcomes)
}

/// All clients at once, `rounds` requests each.
async fn load(router: &Arc<Router>, rounds: usize) -> BTreeMap<Outcome, u32> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let router = router.clone();
        clients.spawn(async move {
            let mut outcomes = Vec::new();
            for _ in 0..rounds {
                outcomes.push(answer(&router, client, &AtomicU32::new(0)).await);
            }
            outcomes
        });
    }
    count(clients.join_all().await.concat())
}

fn count(outcomes: Vec<Outcome>) -> BTreeMap<Outcome, u32> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_insert(0) += 1;
    }
    counts
}

async fn answer(router: &Router, client: usize, texts: &AtomicU32) -> Outcome {
    answer_watched(router, client, texts, |_| {}).await
}

/// One request to its end; `on_text` learns the upstream of each piece.
async fn answer_watched(
    router: &Router,
    client: usize,
    texts: &AtomicU32,
    on_text: impl Fn(&str),
) -> Outcome {
    let mut generation = match router.generate("smol", request(client, TOKENS), None).await {
        Ok(generation) => generation,
        Err(error) => return wrong(&error),
    };
    let upstream = generation.upstream().to_owned();
    let mut is_finished = false;
    while let Some(event) = generation.next().await {
        match event {
            Ok(Event::Text(_)) => {
                texts.fetch_add(1, SeqCst);
                on_text(&upstream);
            }
            Ok(Event::Finished(_)) => is_finished = true,
            Ok(_) => {}
            Err(Error::UpstreamBroke { .. }) => return Outcome::BrokeOff,
            Err(error) => return wrong(&error),
        }
    }
    match is_finished && texts.load(SeqCst) > 0 {
        true => Outcome::Complete,
        false => Outcome::Wrong,
    }
}

fn wrong(error: &Error) -> Outcome {
    println!("wrong: {error:?}");
    Outcome::Wrong
}

fn request(client: usize, tokens_max: u32) -> GenerationRequest {
    GenerationRequest {
        model: ModelChoice::Default,
        adapter: None,
        messages: vec![ChatMessage {
            role: Role::User,
            content: format!("Write a long story about lighthouse number {client}."),
        }],
        tokens_max,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        constraint: None,
        top_logprobs: 0,
        priority: Priority::Interactive,
        caller: Caller::default(),
    }
}

fn router(ports: &[u16]) -> Router {
    let upstreams = ports.iter().map(|port| {
        json!({
            "kind": "llama.cpp", "url": format!("http://127.0.0.1:{port}"), "model": "smol",
            "first_token_timeout_ms": 60_000, "health_interval_ms": 500, "backoff_ms": 500,
            "failures_max": 2,
        })
    });
    let config = json!({
        "allowed_hosts": ["127.0.0.1"],
        "route": [{"model": "smol", "upstream": upstreams.collect::<Vec<_>>()}],
    });
    Router::new(&serde_json::from_value(config).unwrap()).unwrap()
}

fn breaker(router: &Router) -> BreakerState {
    router.status()[0].breaker
}

fn report(router: &Router) {
    for status in router.status() {
        println!("  {status:?}");
    }
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{what} after {} ms", start.elapsed().as_millis());
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Server {
    fn start(python: &str, model: &str, port: u16) -> Self {
        let child = Command::new(python)
            .args([
                "-m",
                "llama_cpp.server",
                "--model",
                model,
                "--model_alias",
                "smol",
            ])
            .args([
                "--n_ctx",
                "2048",
                "--n_threads",
                "1",
                "--n_threads_batch",
                "1",
            ])
            // By default a new request cuts off the running one.
            .args(["--interrupt_requests", "False", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    fn wait(&self) {
        let start = Instant::now();
        while !self.answers() {
            assert!(start.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        println!(
            "server on port {} ready after {} ms",
            self.port,
            start.elapsed().as_millis()
        );
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
            let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            connection.write_all(request.as_bytes())?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
