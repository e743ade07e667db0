//! Goal: recorded answers of a real server arrive as they were meant, every way in which a server can
//! fail has its stated consequence, and nothing goes where the allow-list does not point.

use std::time::{Duration, Instant};

use inference_sidecar::error::Error;
use inference_sidecar::router::config::RouterConfig;
use inference_sidecar::router::{BreakerState, Generation, Router, UpstreamStatus};
use proto::model::{Constraint, GenerationRequest};
use proto::wire::FinishReason;
use proto::wire::generate_response::Event;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_stream::StreamExt;

use super::scripted_server::{Script, ScriptedServer, answer, event_stream, recorded};
use super::sidecar::{PATIENCE, greedy};

const CHUNK: &str = r#"{"choices": [{"delta": {"content": "Hi"}, "finish_reason": null}]}"#;
const END: &str = r#"{"choices": [{"delta": {}, "finish_reason": "stop"}]}"#;

/// A router for model "m" over these servers.
fn router(servers: &[&ScriptedServer], more: Value) -> Router {
    let ports: Vec<_> = servers.iter().map(|server| server.port).collect();
    router_to(&ports, more)
}

fn router_to(ports: &[u16], more: Value) -> Router {
    let upstream = |port: &u16| {
        let mut upstream = json!({
            "kind": "llama.cpp", "url": format!("http://127.0.0.1:{port}"), "model": "smol",
            "first_token_timeout_ms": 20_000, "idle_timeout_ms": 20_000,
        });
        for (name, value) in more.as_object().unwrap() {
            upstream[name] = value.clone();
        }
        upstream
    };
    let upstreams: Vec<_> = ports.iter().map(upstream).collect();
    let config = json!({
        "allowed_hosts": ["127.0.0.1"],
        "route": [{"model": "m", "upstream": upstreams}],
    });
    Router::new(&config_of(config)).unwrap()
}

fn config_of(config: Value) -> RouterConfig {
    serde_json::from_value(config).unwrap()
}

async fn start(router: &Router) -> Result<Generation, Error> {
    router
        .generate("m", greedy("secret prompt", 40), None)
        .await
}

/// Everything an answer sends.
async fn events(router: &Router, request: GenerationRequest) -> Result<Vec<Event>, Error> {
    let generation = router.generate("m", request, None).await?;
    generation.collect().await
}

fn text(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Text(text) => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

fn finish(events: &[Event]) -> (FinishReason, u32) {
    match events.last() {
        Some(Event::Finished(finished)) => (finished.reason(), finished.completion_tokens),
        other => panic!("{other:?}"),
    }
}

fn only(router: &Router) -> UpstreamStatus {
    let [status] = router.status().try_into().unwrap();
    status
}

async fn wait(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn recorded_answers() {
    let server = ScriptedServer::start(Script::Close).await;
    let router = router(&[&server], json!({}));
    for (name, tokens_max, expected, end) in [
        (
            "length",
            12,
            "Hello! I'm here to help with any kind of creative",
            (FinishReason::Length, 12),
        ),
        (
            "end",
            40,
            "The capital of France is Paris.",
            (FinishReason::End, 7),
        ),
        (
            "unicode",
            40,
            "größer, 日本語, 🦙🎉",
            (FinishReason::End, 12),
        ),
        ("stop", 40, "Hello! I'm", (FinishReason::End, 4)),
        (
            "schema",
            60,
            r#"{"zip": 12345, "city": "New York"}"#,
            (FinishReason::End, 17),
        ),
        ("choices", 8, "yes", (FinishReason::End, 1)),
    ] {
        let whole = recorded(name);
        for script in [
            Script::Send(whole.clone()),
            Script::SendSlowly(whole.clone(), 101, Duration::ZERO),
        ] {
            server.follow(script);
            let events = events(&router, greedy("Hello", tokens_max)).await.unwrap();
            assert_eq!(
                (text(&events).as_str(), finish(&events)),
                (expected, end),
                "{name}"
            );
            let Event::Started(started) = &events[0] else {
                panic!("{name}")
            };
            assert_eq!(started.model, "m");
            assert_eq!(started.upstream, format!("127.0.0.1:{}", server.port));
        }
    }
    let status = only(&router);
    assert_eq!((status.running, status.outstanding_tokens), (0, 0));
    assert_eq!(
        (status.requests, status.cancelled, status.failed_requests),
        (12, 0, 0)
    );
    assert_eq!(status.completion_tokens, 2 * (12 + 7 + 12 + 4 + 17 + 1));
}

#[tokio::test]
async fn recorded_logprobs() {
    let server = ScriptedServer::start(Script::Send(recorded("logprobs"))).await;
    let router = router(&[&server], json!({}));
    let request = GenerationRequest {
        top_logprobs: 2,
        ..greedy("Say hello.", 4)
    };
    let events = events(&router, request).await.unwrap();
    let mut tokens = Vec::new();
    for pair in events.windows(2) {
        if let [Event::Token(token), Event::Text(text)] = pair {
            assert_eq!(token.content, text.as_bytes(), "a token precedes its text");
            assert_eq!(token.alternatives[0].content, token.content);
            assert_eq!(token.alternatives.len(), 2);
            assert!(token.logprob < 0.0);
            tokens.push(text.as_str());
        }
    }
    assert_eq!(tokens, ["Hello", "!", " I", "'m"]);
}

#[tokio::test]
async fn counts_of_the_upstream_are_used() {
    let usage = r#"{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}"#;
    let first = r#"{"choices": [{"delta": {"content": "Hi"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}}"#;
    let end = r#"{"choices": [{"delta": {"content": ""}, "finish_reason": "stop", "stop_reason": "END"}]}"#;
    let stream = event_stream(&[first, end, usage, "[DONE]", "not read any more"]);
    let server = ScriptedServer::start(Script::Send(stream)).await;
    let router = router(&[&server], json!({"kind": "vllm"}));
    let events = events(&router, greedy("Hello", 8)).await.unwrap();
    let Event::Started(started) = &events[0] else {
        panic!()
    };
    assert_eq!((started.prompt_tokens, started.cached_tokens), (9, 4));
    assert_eq!(finish(&events), (FinishReason::Stop, 5));
}

#[tokio::test]
async fn a_failure_before_the_first_token_is_healed_elsewhere() {
    let long = Duration::from_millis(300).as_millis() as u64;
    let role = r#"{"choices": [{"delta": {"role": "assistant"}}]}"#;
    let html = answer("200 OK", "content-type: text/html\r\n", "<p>hello</p>");
    let whole = recorded("length");
    for (name, script) in [
        ("closes at once", Script::Close),
        (
            "closes in the head",
            Script::Send(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
        ),
        (
            "speaks no HTTP",
            Script::Send(b"SSH-2.0-server\r\n".to_vec()),
        ),
        ("dies after the role", Script::Send(whole[..600].to_vec())),
        ("stalls before the head", Script::Stall(Vec::new())),
        (
            "stalls after the role",
            Script::Stall(event_stream(&[role])),
        ),
        (
            "is slow",
            Script::SendSlowly(whole.clone(), 1, Duration::from_millis(10)),
        ),
        ("wrong content type", Script::Send(html)),
        (
            "no content type",
            Script::Send(answer("200 OK", "", "data: [DONE]\n\n")),
        ),
        (
            "malformed chunk",
            Script::Send(event_stream(&["{\"choices\": ["])),
        ),
        ("no JSON", Script::Send(event_stream(&["hello"]))),
        (
            "an error in the stream",
            Script::Send(event_stream(&[r#"{"error": {"message": "x"}}"#])),
        ),
        ("interrupted", Script::Send(event_stream(&[role, "[DONE]"]))),
        (
            "internal error",
            Script::Send(answer("500 Internal Server Error", "", "secret prompt")),
        ),
        (
            "wrong key",
            Script::Send(answer("401 Unauthorized", "", "secret prompt")),
        ),
        (
            "overloaded",
            Script::Send(answer("429 Too Many Requests", "retry-after: 7\r\n", "")),
        ),
        (
            "loading",
            Script::Send(answer("503 Service Unavailable", "", "")),
        ),
    ] {
        let broken = ScriptedServer::start(script).await;
        let good = ScriptedServer::start(Script::Send(whole.clone())).await;
        let router = router(
            &[&broken, &good],
            json!({"first_token_timeout_ms": long, "connect_timeout_ms": 5_000}),
        );
        let answer = events(&router, greedy("Hello", 12)).await;
        let events = answer.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(finish(&events), (FinishReason::Length, 12), "{name}");
        assert_eq!((broken.asked(), good.asked()), (1, 1), "{name}");
        let begun = events
            .iter()
            .filter(|e| matches!(e, Event::Started(_)))
            .count();
        assert_eq!(begun, 1, "{name}");
        for status in router.status() {
            assert_eq!(
                (status.running, status.outstanding_tokens),
                (0, 0),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn a_refused_connection_is_healed_elsewhere() {
    let gone = ScriptedServer::start(Script::Close).await;
    let good = ScriptedServer::start(Script::Send(recorded("length"))).await;
    let ports = [gone.port, good.port];
    drop(gone);
    tokio::task::yield_now().await;
    let router = router_to(&ports, json!({"failures_max": 2}));
    for _ in 0..6 {
        assert!(events(&router, greedy("Hello", 12)).await.is_ok());
    }
    assert_eq!(good.asked(), 6);
    let [gone, good] = router.status().try_into().unwrap();
    assert_eq!(
        (gone.breaker, gone.failed_requests),
        (BreakerState::Open, 2)
    );
    assert_eq!((good.breaker, good.requests), (BreakerState::Closed, 6));
}

#[tokio::test]
async fn after_the_first_token_the_answer_fails_and_is_not_begun_again() {
    let whole = recorded("length");
    let cut = whole[..1500].to_vec();
    let begun = event_stream(&[CHUNK]);
    // The rest follows when the first token has been read.
    let then = |rest: &[u8]| {
        let pause = Duration::from_millis(100);
        Script::SendSlowly([&begun[..], rest].concat(), begun.len(), pause)
    };
    let event = |data: &str| then(format!("data: {data}\n\n").as_bytes());
    let long = CHUNK.replace("Hi", &"x".repeat(50_000));
    for (name, script) in [
        ("dies", Script::Send(cut.clone())),
        ("stalls", Script::Stall(cut)),
        ("malformed", event("{")),
        ("not UTF-8", then(b"data: \xff\n\n")),
        ("drips without an event", then(&[b'x'; 4096])),
        ("ends without an end", then(b"")),
        ("interrupted", event("[DONE]")),
        ("unknown end", event(&END.replace("stop", "abort"))),
        ("an error", event(r#"{"object": "error", "code": 500}"#)),
        ("too much text", event(&long)),
    ] {
        let broken = ScriptedServer::start(script).await;
        let good = ScriptedServer::start(Script::Send(whole.clone())).await;
        let router = router(&[&broken, &good], json!({"idle_timeout_ms": 300}));
        let mut generation = start(&router).await.unwrap();
        assert!(matches!(
            generation.next().await,
            Some(Ok(Event::Started(_)))
        ));
        assert!(matches!(generation.next().await, Some(Ok(Event::Text(_)))));
        let error = loop {
            match generation.next().await.unwrap() {
                Ok(Event::Text(_)) => {}
                Ok(event) => panic!("{name}: {event:?}"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, Error::UpstreamBroke { .. }),
            "{name}: {error:?}"
        );
        assert!(generation.next().await.is_none(), "{name}");
        drop(generation);
        assert_eq!(good.asked(), 0, "{name}");
        let [status, _] = router.status().try_into().unwrap();
        assert_eq!((status.broken_answers, status.running), (1, 0), "{name}");
    }
}

#[tokio::test]
async fn what_the_client_learns_when_nobody_answers() {
    let refused = || Script::Send(answer("400 Bad Request", "", "secret prompt"));
    let check = async |script, request: GenerationRequest| {
        let server = ScriptedServer::start(script).await;
        let router = router(&[&server], json!({"first_token_timeout_ms": 300}));
        let error = events(&router, request).await.unwrap_err();
        let texts = format!("{error} {error:?}");
        assert!(!texts.contains("secret"), "{texts}");
        (error, server.asked(), only(&router).breaker)
    };
    let prompt = || greedy("secret prompt", 4);
    let (error, ..) = check(Script::Close, prompt()).await;
    assert!(matches!(error, Error::UpstreamUnavailable { model } if model == "m"));
    let (error, ..) = check(Script::Stall(Vec::new()), prompt()).await;
    assert!(matches!(error, Error::UpstreamUnavailable { .. }));
    let busy = answer("429 Too Many Requests", "retry-after: 7\r\n", "");
    let (error, ..) = check(Script::Send(busy), prompt()).await;
    assert!(matches!(error, Error::QueueFull { retry_after } if retry_after.as_secs() == 7));
    let (error, ..) = check(refused(), prompt()).await;
    assert!(matches!(
        error,
        Error::UpstreamRejected { detail: None, .. }
    ));
    // A prompt that is too long gets an empty stream; the server is not to blame.
    let (error, _, breaker) = check(Script::Send(recorded("too_long")), prompt()).await;
    assert!(matches!(error, Error::UpstreamRejected { .. }));
    assert_eq!(breaker, BreakerState::Closed);
    let regex = GenerationRequest {
        constraint: Some(Constraint::Regex("a+".into())),
        ..prompt()
    };
    let (error, asked, _) = check(Script::Close, regex).await;
    assert!(matches!(error, Error::UpstreamLacks { field: "regex", .. }));
    assert_eq!(asked, 0);
    let cut = GenerationRequest {
        constraint: Some(Constraint::Choices(vec!["a".into()])),
        ..prompt()
    };
    let length = Script::Send(recorded("length"));
    let (error, ..) = check(length, cut).await;
    assert!(matches!(
        error,
        Error::ConstraintUnfinished { tokens_max: 4 }
    ));

    let server = ScriptedServer::start(refused()).await;
    let router = router(&[&server], json!({}));
    let unknown = router.generate("other", prompt(), None).await;
    assert!(matches!(unknown.err(), Some(Error::ModelNotFound { .. })));
}

#[tokio::test]
async fn a_refused_request_is_not_tried_elsewhere() {
    let script = || Script::Send(answer("400 Bad Request", "", ""));
    let servers = [
        ScriptedServer::start(script()).await,
        ScriptedServer::start(script()).await,
    ];
    let router = router(&[&servers[0], &servers[1]], json!({}));
    assert!(start(&router).await.is_err());
    assert_eq!(servers[0].asked() + servers[1].asked(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = ScriptedServer::start(Script::Send(recorded("length"))).await;
    let location = format!(
        "location: http://127.0.0.1:{}/v1/chat/completions\r\n",
        target.port
    );
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
    ] {
        let server = ScriptedServer::start(Script::Send(answer(status, &location, ""))).await;
        let router = router(&[&server], json!({}));
        let error = start(&router).await.err().unwrap();
        assert!(matches!(error, Error::UpstreamUnavailable { .. }));
        assert_eq!(only(&router).failed_requests, 1);
    }
    assert!(target.heads().is_empty());
}

#[tokio::test]
async fn leaving_closes_the_connection() {
    let whole = recorded("length");
    let server = ScriptedServer::start(Script::Stall(whole[..1500].to_vec())).await;
    let router = router(&[&server], json!({}));
    let mut generation = start(&router).await.unwrap();
    assert!(matches!(
        generation.next().await,
        Some(Ok(Event::Started(_)))
    ));
    assert_eq!(only(&router).running, 1);
    drop(generation);
    wait(|| server.left() == 1).await;
    // Before the first token as well.
    server.follow(Script::Stall(Vec::new()));
    let waiting = tokio::time::timeout(Duration::from_millis(200), start(&router)).await;
    assert!(waiting.is_err());
    wait(|| server.left() == 2).await;
    let status = only(&router);
    assert_eq!(
        (status.running, status.outstanding_tokens, status.cancelled),
        (0, 0, 2)
    );
    assert_eq!(status.breaker, BreakerState::Closed);
}

#[tokio::test]
async fn deadlines_hold_before_and_after_the_first_token() {
    let whole = recorded("length");
    let server = ScriptedServer::start(Script::Stall(Vec::new())).await;
    let router = router(&[&server], json!({}));
    let soon = || Some(Instant::now() + Duration::from_millis(200));
    let late = router.generate("m", greedy("Hello", 12), soon()).await;
    assert!(matches!(late.err(), Some(Error::DeadlineExceeded)));
    server.follow(Script::Stall(whole[..1500].to_vec()));
    let generation = router.generate("m", greedy("Hello", 12), soon()).await;
    let events: Vec<_> = generation.unwrap().collect().await;
    assert!(matches!(events.last(), Some(Err(Error::DeadlineExceeded))));
    wait(|| server.left() == 2).await;
    assert_eq!(only(&router).breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_full_route_says_so() {
    let server = ScriptedServer::start(Script::Stall(recorded("length")[..1500].to_vec())).await;
    let router = router(&[&server], json!({"requests_max": 2}));
    let running = [start(&router).await.unwrap(), start(&router).await.unwrap()];
    let refused = start(&router).await;
    assert!(matches!(refused.err(), Some(Error::QueueFull { .. })));
    drop(running);
    assert!(start(&router).await.is_ok());
}

#[tokio::test]
async fn health_checks_open_and_close_the_breaker() {
    let server = ScriptedServer::start(Script::Send(recorded("length"))).await;
    let more = json!({"health_interval_ms": 20, "backoff_ms": 50, "failures_max": 2});
    let router = router(&[&server], more);
    let checks = router.start_health_checks();
    wait(|| server.heads().len() > 3).await;
    assert_eq!(only(&router).breaker, BreakerState::Closed);
    assert!(server.heads()[0].starts_with("GET /v1/models HTTP/1.1"));

    server.set_healthy(false);
    wait(|| only(&router).breaker == BreakerState::Open).await;
    let refused = start(&router).await;
    assert!(matches!(
        refused.err(),
        Some(Error::UpstreamUnavailable { .. })
    ));
    assert_eq!(server.asked(), 0);

    server.set_healthy(true);
    wait(|| only(&router).breaker == BreakerState::HalfOpen).await;
    assert!(events(&router, greedy("Hello", 12)).await.is_ok());
    let status = only(&router);
    assert_eq!(
        (status.breaker, status.breaker_openings),
        (BreakerState::Closed, 1)
    );

    drop(checks);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let count = server.heads().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.heads().len(), count, "they end with their handle");
}

#[tokio::test]
async fn the_key_is_sent_and_does_not_print() {
    let folder = TempDir::new().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "sk-secret\n").unwrap();
    let server = ScriptedServer::start(Script::Send(recorded("length"))).await;
    let router = router(&[&server], json!({"api_key_file": key_file}));
    assert!(start(&router).await.is_ok());
    let heads = server.heads();
    assert!(
        heads[0].contains("authorization: Bearer sk-secret"),
        "{heads:?}"
    );
    assert!(!heads[0].contains("secret prompt"));

    let config = |url: &str, key: &str| {
        std::fs::write(&key_file, key).unwrap();
        Router::new(&config_of(json!({
            "allowed_hosts": ["127.0.0.1", "gpu1"],
            "route": [{"model": "m", "upstream": [
                {"kind": "vllm", "url": url, "model": "x", "api_key_file": key_file},
            ]}],
        })))
    };
    let error = config("http://gpu1:8000", "sk-secret").err().unwrap();
    assert!(error.to_string().contains("https"), "{error}");
    for bad in ["", "sk\nsecret"] {
        let error = config("http://127.0.0.1:8000", bad).err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn routes_that_are_refused() {
    let upstream = json!({"kind": "vllm", "url": "http://gpu1:8000", "model": "x"});
    let with = |name: &str, value: Value| {
        let mut upstream = upstream.clone();
        upstream[name] = value;
        upstream
    };
    let refuse = |hosts: Value, upstream: Value, expected: &str| {
        let config = json!({
            "allowed_hosts": hosts,
            "route": [{"model": "m", "upstream": [upstream]}],
        });
        let error = Router::new(&config_of(config)).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    assert!(
        Router::new(&RouterConfig::default())
            .unwrap()
            .models()
            .next()
            .is_none()
    );
    refuse(json!([]), upstream.clone(), "allowed_hosts");
    refuse(
        json!(["gpu2", "gpu1:80", "127.0.0.1"]),
        upstream.clone(),
        "allowed_hosts",
    );
    refuse(json!(["*"]), upstream.clone(), "wildcards");
    refuse(
        json!([]),
        with("url", json!("http://localhost:1")),
        "allowed_hosts",
    );
    refuse(
        json!([]),
        with("url", json!("http://[::1]:1")),
        "allowed_hosts",
    );
    let hosts = || json!(["gpu1"]);
    refuse(
        hosts(),
        with("url", json!("http://me:password@gpu1")),
        "no user",
    );
    refuse(hosts(), with("url", json!("https://gpu1")), "tls_ca_file");
    refuse(hosts(), with("requests_max", json!(0)), "requests_max");
    refuse(hosts(), with("backoff_max_ms", json!(1)), "backoff_max_ms");
    refuse(hosts(), with("tls_key_file", json!("/k")), "come together");
    refuse(hosts(), with("kind", json!("sidecar")), "https://host:port");
    refuse(
        hosts(),
        with("api_key_file", json!("/no/such/file")),
        "https",
    );
    let llama = |adapter: Value| {
        let mut upstream = with("kind", json!("llama.cpp"));
        upstream["adapter"] = json!([adapter]);
        upstream
    };
    refuse(hosts(), llama(json!({"name": "tone"})), "lacks");
    let none = json!({"allowed_hosts": ["gpu1"], "route": [{"model": "m", "upstream": []}]});
    assert!(Router::new(&config_of(none)).is_err());
    for unknown in [
        json!({"allowed_host": []}),
        json!({"route": [{"model": "m", "upstream": [], "weight": 1}]}),
        json!({"route": [{"model": "m", "upstream": [{"kind": "vllm", "url": "", "model": "", "api_key": "x"}]}]}),
    ] {
        assert!(serde_json::from_value::<RouterConfig>(unknown).is_err());
    }
}
