//! Goal: an operator can check a configuration, trust readiness, scrape numbers and measure a server.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use inference_sidecar::config::DEFAULT_FILE;
use proto::wire;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::sidecar::{self, PATIENCE, Sidecar, endless};

/// Status code and body of the answer to `method path` on a Unix socket.
async fn http(socket: &Path, method: &str, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: sidecar\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

/// What `--check` says of the server on `socket`.
fn check(socket: &Path) -> bool {
    let output = sidecar::command(socket).arg("--check").output().unwrap();
    output.status.success()
}

async fn is_serving(sidecar: &Sidecar) -> bool {
    let request = HealthCheckRequest {
        service: "salesai.inference.v1.InferenceService".into(),
    };
    let health = HealthClient::new(sidecar.channel().await)
        .check(request)
        .await;
    health.unwrap().into_inner().status() == ServingStatus::Serving
}

fn value(metrics: &str, series: &str) -> String {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in:\n{metrics}"))
        .to_owned()
}

/// A folder with a configuration file for both models and metrics on a socket there.
fn folder(embedding: &Path, language: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    let text = format!(
        "metrics_listen = {:?}\nthreads = 1\n\
         [[embedding_model]]\nname = \"mini\"\npath = {embedding:?}\n\
         [[language_model]]\nname = \"smol\"\npath = {language:?}\n",
        folder.path().join("metrics"),
    );
    std::fs::write(folder.path().join("sidecar.toml"), text).unwrap();
    folder
}

fn start(folder: TempDir) -> Sidecar {
    let config = folder.path().join("sidecar.toml");
    Sidecar::start_in(folder, &["--config", config.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_has_one_meaning() {
    let test = "readiness_has_one_meaning";
    let (Some(embedding), Some(language)) = (
        sidecar::embedding_model(test),
        sidecar::language_model(test),
    ) else {
        return;
    };
    let mut sidecar = start(folder(&embedding, &language));
    let (socket, metrics) = (sidecar.socket(), sidecar.folder().join("metrics"));
    let begin = Instant::now();
    while !metrics.exists() {
        assert!(begin.elapsed() < PATIENCE, "{}", sidecar.log());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The state only goes forward, so what one door says holds for the next one that is asked.
    loop {
        let (before, _) = http(&metrics, "GET", "/ready").await;
        assert_eq!(http(&metrics, "GET", "/health").await.0, 200);
        let is_ready = check(&socket);
        let (after, state) = http(&metrics, "GET", "/ready").await;
        assert!(before != 200 || is_ready);
        assert!(!is_ready || after == 200, "{state}");
        if is_ready {
            break;
        }
        assert!(
            before == 503 && begin.elapsed() < PATIENCE,
            "{}",
            sidecar.log()
        );
    }
    assert!(is_serving(&sidecar).await);
    // Nobody has asked for anything yet.
    assert!(sidecar.status().await.generation_steps > 0);
    let environment = std::fs::read(format!("/proc/{}/environ", sidecar.pid())).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("RAYON_NUM_THREADS=1\0"));

    let mut client = sidecar.client().await;
    let stream = client.generate(endless(), PATIENCE).await.unwrap();
    sidecar
        .wait_status(|status| status.running_requests == 1)
        .await;
    sidecar.signal("-TERM");
    let begin = Instant::now();
    while http(&metrics, "GET", "/ready").await.0 == 200 {
        assert!(begin.elapsed() < PATIENCE);
    }
    let (code, state) = http(&metrics, "GET", "/ready").await;
    assert_eq!((code, state.as_str()), (503, "SERVER_STATE_STOPPING\n"));
    assert!(!check(&socket));
    drop(stream);
    assert!(sidecar.exit_status().await.success(), "{}", sidecar.log());
    assert!(!metrics.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_threads_stay_on_the_processors_of_the_configuration() {
    let test = "all_threads_stay_on_the_processors_of_the_configuration";
    let Some(embedding) = sidecar::embedding_model(test) else {
        return;
    };
    let allowed = |status: &Path| {
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    };
    let all = allowed(Path::new("/proc/self/status"));
    let first = all.split(['-', ',']).next().unwrap();
    let folder = TempDir::new().unwrap();
    let text = format!(
        "cpus = \"{first}\"\n[[embedding_model]]\nname = \"mini\"\npath = {embedding:?}\nquantization = \"int8\"",
    );
    std::fs::write(folder.path().join("sidecar.toml"), text).unwrap();
    let mut sidecar = start(folder);
    sidecar.wait_ready().await;
    let texts = wire::EmbedRequest {
        texts: vec!["The price is fine.".into()],
        ..Default::default()
    };
    let answer = sidecar.raw_client().await.embed(texts).await.unwrap();
    assert_eq!(answer.into_inner().embeddings[0].values.len(), 384);
    let threads = std::fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
    let threads: Vec<_> = threads
        .map(|thread| thread.unwrap().path().join("status"))
        .collect();
    assert!(threads.len() > 3);
    for thread in threads {
        assert_eq!(allowed(&thread), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let test = "metrics_count_what_happened";
    let (Some(embedding), Some(language)) = (
        sidecar::embedding_model(test),
        sidecar::language_model(test),
    ) else {
        return;
    };
    let mut sidecar = start(folder(&embedding, &language));
    sidecar.wait_ready().await;
    let socket = sidecar.folder().join("metrics");
    let before = http(&socket, "GET", "/metrics").await.1;
    let texts: u32 = value(&before, r#"salesai_embedding_texts_total{model="mini"}"#)
        .parse()
        .unwrap();

    let mut raw = sidecar.raw_client().await;
    let request = wire::EmbedRequest {
        texts: vec!["one".into(), String::new(), "three".into()],
        ..Default::default()
    };
    raw.embed(request.clone()).await.unwrap();
    let unknown = wire::EmbedRequest {
        model: "gpt".into(),
        ..request
    };
    assert_eq!(raw.embed(unknown).await.unwrap_err().code(), Code::NotFound);
    let empty = wire::GenerateRequest::default();
    assert_eq!(
        raw.generate(empty).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let (code, after) = http(&socket, "GET", "/metrics").await;
    assert_eq!(code, 200);
    for (series, expected) in [
        (
            r#"salesai_embedding_texts_total{model="mini"}"#,
            (texts + 2).to_string().as_str(),
        ),
        (
            r#"salesai_requests_rejected_total{reason="not_found"}"#,
            "1",
        ),
        (r#"salesai_requests_rejected_total{reason="invalid"}"#, "1"),
    ] {
        assert_eq!(value(&after, series), expected, "{series}");
    }
    let resident: u64 = value(&after, "process_resident_memory_bytes")
        .parse()
        .unwrap();
    assert!(resident > 1 << 20);
    assert!(after.ends_with("# EOF\n"));
    assert!(!after.contains("gpt"));

    assert_eq!(http(&socket, "HEAD", "/health").await, (200, String::new()));
    assert_eq!(http(&socket, "POST", "/metrics").await.0, 405);
    assert_eq!(http(&socket, "GET", "/").await.0, 404);
}

/// Runs the binary with `arguments` and a socket that nobody needs.
fn run(arguments: &[&str]) -> Output {
    let mut command = sidecar::command(Path::new("/nowhere/socket"));
    command.args(arguments).output().unwrap()
}

#[test]
fn a_configuration_can_be_checked() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sidecar.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let socket = folder.path().join("socket");
        let output = sidecar::command(&socket)
            .args(["--config", path.to_str().unwrap(), "--check-config"])
            .output()
            .unwrap();
        assert!(!socket.exists());
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let model = folder.path().join("m.gguf");
    std::fs::write(&model, "").unwrap();
    let good = format!("[[language_model]]\nname = \"m\"\npath = {model:?}\n");
    let (code, said) = check(&good);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("language model \"m\"") && said.contains("is usable"));

    let missing = good.replace("m.gguf", "n.gguf");
    for (text, expected) in [
        (missing.as_str(), "n.gguf"),
        ("\nqueue_sise = 1", "line 2"),
        ("kv_mib = 0", "kv_mib"),
        ("", "no model"),
        (
            &format!("cpus = \"1023\"\n{good}"),
            "1023 is not one of them",
        ),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_default_configuration_is_printed() {
    let output = run(&["--print-config"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), DEFAULT_FILE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_can_be_measured() {
    let Some(model) = sidecar::language_model("a_server_can_be_measured") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let bench = |arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inference-sidecar"));
        command.arg("bench").arg("--socket").arg(sidecar.socket());
        command.args(arguments.split(' ')).output().unwrap()
    };
    let size = "--requests 3 --concurrency 2 --prompt-tokens 20 --output-tokens 4";
    let output = bench(&format!("{size} --json"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| report[key].as_f64().unwrap();
    assert_eq!((number("requests"), number("failed")), (3.0, 0.0));
    assert!(number("prompt_tokens") > 60.0 && number("completion_tokens") >= 3.0);
    assert!(report["time_to_first_token_ms"]["p99"].as_f64().unwrap() > 0.0);

    let table = bench(size);
    assert!(String::from_utf8_lossy(&table.stdout).contains("time to first token"));
    let unknown = bench("--requests 1 --model gpt");
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        said.contains("1 of the requests failed") && said.contains("gpt"),
        "{said}"
    );
    let nobody = std::process::Command::new(env!("CARGO_BIN_EXE_inference-sidecar"))
        .args(["bench", "--socket", "/nowhere/socket"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("connect to"));
}
