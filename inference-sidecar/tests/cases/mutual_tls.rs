//! Goal: one sidecar process routes to another over TCP; both must show a certificate of the right
//! authority, and without one nothing is answered.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use inference_sidecar::error::Error;
use inference_sidecar::router::{BreakerState, Router};
use proto::wire::generate_response::Event;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_stream::StreamExt;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};

/// An authority with the certificates it has signed, as files.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    /// Writes `name.pem` and `name.key`, valid for `host`.
    fn sign(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A router to the sidecar at `url`, which shows the certificate `client` and trusts `trusted`.
fn router(url: &str, client: (&Authority, &str), trusted: &Authority) -> Router {
    let config: Value = json!({
        "allowed_hosts": ["127.0.0.1", url],
        "route": [{"model": "there", "upstream": [{
            "kind": "sidecar", "url": url, "model": "smol", "failures_max": 1, "backoff_ms": 50,
            "tls_ca_file": trusted.file("ca.pem"),
            "tls_cert_file": client.0.file(&format!("{}.pem", client.1)),
            "tls_key_file": client.0.file(&format!("{}.key", client.1)),
        }]}],
    });
    Router::new(&serde_json::from_value(config).unwrap()).unwrap()
}

async fn answer(router: &Router) -> Result<Vec<Event>, Error> {
    let request = greedy("Say hello.", 6);
    let generation = router.generate("there", request, None).await?;
    generation.collect().await
}

fn text_of(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Text(text) => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_reach_each_other_with_certificates_alone() {
    let Some(model) = sidecar::language_model("sidecars_reach_each_other_with_certificates_alone")
    else {
        return;
    };
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.sign("server", "127.0.0.1");
    ours.sign("client", "client.test");
    theirs.sign("client", "client.test");
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| ours.file(name));
    let arguments = [
        "--listen",
        &listen,
        "--tls-cert-file",
        text(&cert),
        "--tls-key-file",
        text(&key),
        "--tls-client-ca-file",
        text(&ca),
    ];
    let mut sidecar = Sidecar::with_language(&model, &arguments).await;
    let local = sidecar.answer(greedy("Say hello.", 6)).await;

    let url = format!("https://{listen}");
    let known = router(&url, (&ours, "client"), &ours);
    let checks = known.start_health_checks();
    let events = answer(&known).await.unwrap();
    assert_eq!(text_of(&events), local.text);
    let Event::Started(started) = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (started.model.as_str(), &started.upstream),
        ("there", &listen)
    );
    assert_eq!(started.prompt_tokens, local.prompt_tokens);

    // Over the socket as well, by the same router code.
    let socket = format!("unix:{}", sidecar.socket().display());
    let events = answer(&router(&socket, (&ours, "client"), &ours)).await;
    assert_eq!(text_of(&events.unwrap()), local.text);

    for (name, stranger) in [
        (
            "a client of another authority",
            router(&url, (&theirs, "client"), &ours),
        ),
        (
            "a server of another authority",
            router(&url, (&ours, "client"), &theirs),
        ),
    ] {
        let refused = answer(&stranger).await;
        // On a busy machine the call's own deadline may come first; an answer never does.
        assert!(
            matches!(
                refused,
                Err(Error::UpstreamUnavailable { .. } | Error::DeadlineExceeded)
            ),
            "{name}: {refused:?}"
        );
    }
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{listen}"))
        .unwrap()
        .connect_timeout(PATIENCE)
        .connect_lazy();
    let request = proto::wire::GetStatusRequest {};
    let mut client = proto::wire::inference_service_client::InferenceServiceClient::new(plain);
    assert!(
        client.get_status(request).await.is_err(),
        "no answer without TLS"
    );

    // It stops: the breaker opens by the health check, and calls fail clearly.
    sidecar.signal("-TERM");
    assert!(sidecar.exit_status().await.success(), "{}", sidecar.log());
    let refused = answer(&known).await;
    assert!(matches!(refused, Err(Error::UpstreamUnavailable { .. })));
    assert_eq!(known.status()[0].breaker, BreakerState::Open);
    drop(checks);
}

#[test]
fn no_listening_without_checking_clients() {
    let output = sidecar::command(Path::new("unused"))
        .args(["--embedding-model", "m=/nowhere", "--listen", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("tls_client_ca_file"));
}
