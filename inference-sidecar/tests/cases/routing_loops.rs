//! Goal: two sidecars that name each other as the place of a model do not pass a request around.

use std::path::{Path, PathBuf};

use inference_sidecar::router::ROUTED;
use proto::client::ClientError;
use proto::model::{GenerationRequest, ModelChoice};
use proto::wire;
use tempfile::TempDir;
use tonic::Code;
use tonic::metadata::MetadataValue;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};

/// A configuration in `folder` that serves `model` as `local` and looks for "lost" at the socket `other`.
fn config(folder: &Path, model: &Path, local: &str, other: &Path) -> PathBuf {
    let url = format!("unix:{}", other.display());
    let text = format!(
        "allowed_hosts = [{url:?}]\n\
         [[language_model]]\nname = {local:?}\npath = {model:?}\n\
         [[route]]\nmodel = \"lost\"\n\
         [[route.upstream]]\nkind = \"sidecar\"\nurl = {url:?}\nmodel = \"lost\"\n\
         [[route]]\nmodel = \"found\"\n\
         [[route.upstream]]\nkind = \"sidecar\"\nurl = {url:?}\nmodel = \"right\"\n"
    );
    let path = folder.join("sidecar.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn start(folder: TempDir, model: &Path, local: &str, other: &Path) -> Sidecar {
    let path = config(folder.path(), model, local, other);
    let mut sidecar = Sidecar::start_in(folder, &["--config", path.to_str().unwrap()]);
    sidecar.wait_ready().await;
    sidecar
}

fn named(model: &str) -> GenerationRequest {
    GenerationRequest {
        model: ModelChoice::Named(model.into()),
        ..greedy("Hello", 3)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_routed_once() {
    let Some(model) = sidecar::language_model("a_request_is_routed_once") else {
        return;
    };
    let folders = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let sockets = (
        folders.0.path().join("socket"),
        folders.1.path().join("socket"),
    );
    let left = start(folders.0, &model, "left", &sockets.1).await;
    let right = start(folders.1, &model, "right", &sockets.0).await;

    // Each says that the other has it.
    for sidecar in [&left, &right] {
        let mut client = sidecar.client().await;
        let refused = client.generate(named("lost"), PATIENCE).await.err();
        let Some(ClientError::InvalidRequest(said)) = refused else {
            panic!("{refused:?}")
        };
        assert!(said.contains("\"lost\" is not served here"), "{said}");
    }
    let mut request = tonic::Request::new(wire::GenerateRequest::from(named("lost")));
    let value = MetadataValue::from_static("1");
    request.metadata_mut().insert(ROUTED, value);
    let refused = right
        .raw_client()
        .await
        .generate(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");

    // What the other one does have is routed there, and served there.
    let far = left.answer(named("found")).await;
    assert_eq!(far.text, right.answer(named("right")).await.text);
    for sidecar in [&left, &right] {
        assert_eq!(sidecar.status().await.running_requests, 0);
    }
}
