//! Goal: the server is ready only when it is, one server owns a socket, and it leaves cleanly.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proto::client::ClientError;
use proto::wire::generate_response::Event;
use proto::wire::{FinishReason, ModelKind, ServerState};
use tempfile::TempDir;
use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};

#[tokio::test(flavor = "multi_thread")]
async fn models_health_and_reflection() {
    let Some(embedding) = sidecar::embedding_model("models_health_and_reflection") else {
        return;
    };
    let Some(language) = sidecar::language_model("models_health_and_reflection") else {
        return;
    };
    let named = format!("mini={}", embedding.display());
    let arguments = [
        "--embedding-model",
        &named,
        "--context-tokens",
        "1000",
        "--queue-size",
        "7",
    ];
    let sidecar = Sidecar::with_language(&language, &arguments).await;

    let status = sidecar.status().await;
    assert_eq!(status.state(), ServerState::Ready);
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(status.resident_bytes > 100 << 20);
    assert_eq!(
        (status.waiting_requests_max, status.running_requests),
        (7, 0)
    );

    let models = sidecar.client().await.models(PATIENCE).await.unwrap();
    let [mini, smol] = models.as_slice() else {
        panic!("{models:?}")
    };
    assert_eq!(
        (mini.name.as_str(), mini.kind(), mini.dimensions),
        ("mini", ModelKind::Embedding, 384)
    );
    assert_eq!(
        (smol.name.as_str(), smol.kind(), smol.dimensions),
        ("smol", ModelKind::Language, 0)
    );
    assert_eq!((mini.tokens_max, smol.tokens_max), (256, 1000));
    for model in &models {
        assert!(model.is_default && model.weight_bytes > 1 << 20 && model.sha256.len() == 64);
    }

    for service in ["", "salesai.inference.v1.InferenceService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(sidecar.channel().await)
            .check(request)
            .await
            .unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(sidecar.channel().await);
    let answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!()
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(
        names.contains(&"salesai.inference.v1.InferenceService".to_owned()),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starting_server_says_so() {
    let Some(model) = sidecar::language_model("a_starting_server_says_so") else {
        return;
    };
    let named = format!("smol={}", model.display());
    let mut sidecar = Sidecar::start_in(TempDir::new().unwrap(), &["--language-model", &named]);
    let mut client = loop {
        match proto::client::SidecarClient::connect(&sidecar.socket(), PATIENCE).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
        }
    };
    // Loading takes far longer than the two calls; a machine that is faster proves nothing.
    if client.status(PATIENCE).await.unwrap().state() == ServerState::Starting {
        let refused = client.models(PATIENCE).await;
        assert!(
            matches!(refused, Err(ClientError::Unavailable { .. }) | Ok(_)),
            "{refused:?}"
        );
    }
    sidecar.wait_ready().await;
    assert_eq!(client.models(PATIENCE).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_per_socket() {
    let Some(model) = sidecar::embedding_model("one_server_per_socket") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let mode = std::fs::metadata(sidecar.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let named = format!("mini={}", model.display());
    let second = sidecar::command(&sidecar.socket())
        .args(["--embedding-model", &named])
        .output();
    let second = second.unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another server answers"));
    assert_eq!(sidecar.status().await.state(), ServerState::Ready);

    let folder = sidecar.kill();
    assert!(folder.path().join("socket").exists());
    let mut restarted = Sidecar::start_in(folder, &["--embedding-model", &named]);
    restarted.wait_ready().await;
    assert_eq!(restarted.status().await.state(), ServerState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_socket_is_kept() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let output = sidecar::command(&path)
        .args(["--embedding-model", "m=/nowhere"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_fails_without_a_server() {
    let folder = TempDir::new().unwrap();
    let output = sidecar::command(&folder.path().join("none"))
        .arg("--check")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not reachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_running_answer_end() {
    let Some(model) = sidecar::language_model("sigterm_lets_a_running_answer_end") else {
        return;
    };
    let mut sidecar = Sidecar::with_language(&model, &["--sequences-max", "1"]).await;
    let mut client = sidecar.client().await;
    let mut stream = client
        .generate(
            greedy("Write a long story about a lighthouse.", 100),
            PATIENCE,
        )
        .await
        .unwrap();
    assert!(matches!(
        stream.next().await.unwrap(),
        Some(Event::Started(_))
    ));
    // The engine has the next one at hand already; the one after that waits in the queue.
    let _next = client.generate(greedy("Hello", 5), PATIENCE).await.unwrap();
    sidecar
        .wait_status(|status| status.waiting_requests == 1)
        .await;
    let mut waiting = client.generate(greedy("Hello", 5), PATIENCE).await.unwrap();
    sidecar
        .wait_status(|status| status.waiting_requests == 2)
        .await;

    sidecar.signal("-TERM");
    assert!(matches!(
        waiting.next().await,
        Err(ClientError::Unavailable { .. })
    ));
    let refused = client.generate(greedy("Hello", 5), PATIENCE).await;
    assert!(matches!(
        refused.err(),
        Some(ClientError::Unavailable { .. })
    ));
    let finished = loop {
        match stream.next().await.unwrap() {
            Some(Event::Finished(finished)) => break finished,
            Some(_) => {}
            None => panic!("the answer has no end"),
        }
    };
    assert_eq!(finished.reason(), FinishReason::Length);
    assert!(sidecar.exit_status().await.success());
    assert!(!sidecar.socket().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_loading_ends_the_server() {
    let Some(model) = sidecar::language_model("sigterm_while_loading_ends_the_server") else {
        return;
    };
    let named = format!("smol={}", model.display());
    let mut sidecar = Sidecar::start_in(TempDir::new().unwrap(), &["--language-model", &named]);
    while !sidecar.socket().exists() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    sidecar.signal("-TERM");
    assert!(sidecar.exit_status().await.success(), "{}", sidecar.log());
    assert!(!sidecar.socket().exists());
}

#[test]
fn help_names_every_option() {
    let output = sidecar::command(Path::new("unused"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for option in [
        "--embedding-model",
        "--language-model",
        "--queue-size",
        "--check",
        "--log",
    ] {
        assert!(help.contains(option), "{option}");
    }
}
