//! Goal: adapters travel over gRPC whole or not at all; a broken sender disturbs nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inference_sidecar::adapters::{AdapterLimits, AdapterRegistry};
use inference_sidecar::error::Error;
use inference_sidecar::metrics::Metrics;
use inference_sidecar::router::Router;
use inference_sidecar::router::config::RouterConfig;
use inference_sidecar::scheduler::Counters;
use inference_sidecar::service::Service;
use proto::limits::{ADAPTER_PART_BYTES_MAX, MESSAGE_SIZE_MAX};
use proto::model::{AdapterHeader, ModelChoice};
use proto::wire;
use proto::wire::inference_service_client::InferenceServiceClient;
use proto::wire::inference_service_server::InferenceServiceServer;
use proto::wire::load_adapter_request::Part;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Status};

use super::peft_fixture::{self, ADAPTERS, BASE};
use super::sidecar::PATIENCE;

/// The real service on a socket of its own, with the tiny base as the only model.
struct AdapterServer {
    client: InferenceServiceClient<Channel>,
    registry: Arc<AdapterRegistry>,
    service: Service,
    folder: TempDir,
}

impl AdapterServer {
    async fn start() -> Self {
        let limits = AdapterLimits {
            count_max: 4,
            rank_max: 64,
            bytes_max: 64 << 20,
        };
        let registry = Arc::new(AdapterRegistry::new(vec![("tiny".into(), BASE)], limits));
        let service = Service::new(
            Arc::new(Counters::new(8)),
            Metrics::new(),
            Router::new(&RouterConfig::default()).unwrap(),
        );
        service.publish_adapters(registry.clone());
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let server = InferenceServiceServer::new(service.clone())
            .max_decoding_message_size(MESSAGE_SIZE_MAX);
        tokio::spawn(
            Server::builder()
                .add_service(server)
                .serve_with_incoming(listener),
        );
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let client = InferenceServiceClient::new(endpoint.connect().await.unwrap());
        Self {
            client,
            registry,
            service,
            folder,
        }
    }

    async fn ready() -> Self {
        let server = Self::start().await;
        server.service.readiness().set_ready();
        server
    }

    async fn send(&self, parts: Vec<Part>) -> Result<u64, Status> {
        let messages = parts
            .into_iter()
            .map(|part| wire::LoadAdapterRequest { part: Some(part) });
        let call = self
            .client
            .clone()
            .load_adapter(tokio_stream::iter(messages.collect::<Vec<_>>()))
            .await;
        Ok(call?.into_inner().generation)
    }

    /// Sends the parts and then neither more nor an end.
    async fn send_and_hang(&self, parts: Vec<Part>, timeout: Duration) -> Result<u64, Status> {
        let messages: Vec<_> = parts
            .into_iter()
            .map(|part| wire::LoadAdapterRequest { part: Some(part) })
            .collect();
        let mut request = Request::new(tokio_stream::iter(messages).chain(tokio_stream::pending()));
        request.set_timeout(timeout);
        Ok(self
            .client
            .clone()
            .load_adapter(request)
            .await?
            .into_inner()
            .generation)
    }

    /// Sends until no broken transfer of the same name is in the way.
    async fn send_soon(&self, parts: Vec<Part>) -> u64 {
        let start = Instant::now();
        loop {
            match self.send(parts.clone()).await {
                Ok(generation) => return generation,
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
            }
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the server has read the header of a sender that is at work.
    async fn wait_for_sender(&self, adapter: &str) {
        let start = Instant::now();
        let header = || {
            let (config, content) = peft_fixture::adapter_files(adapter);
            peft_fixture::header(adapter, 1, config, &content)
        };
        while !matches!(
            self.registry.begin(header()),
            Err(Error::AdapterInTransit { .. })
        ) {
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn list(&self) -> Vec<wire::Adapter> {
        let request = wire::ListAdaptersRequest {};
        self.client
            .clone()
            .list_adapters(request)
            .await
            .unwrap()
            .into_inner()
            .adapters
    }

    async fn unload(&self, name: &str) -> Result<(), Status> {
        let request = wire::UnloadAdapterRequest { name: name.into() };
        self.client
            .clone()
            .unload_adapter(request)
            .await
            .map(|_| ())
    }
}

/// The whole message sequence of an adapter of the fixture.
fn parts(adapter: &str, generation: u64) -> Vec<Part> {
    let (config, content) = peft_fixture::adapter_files(adapter);
    let header = peft_fixture::header(adapter, generation, config, &content);
    let contents = content
        .chunks(10_000)
        .map(|part| Part::Content(part.to_vec()));
    std::iter::once(Part::Header(header.into()))
        .chain(contents)
        .collect()
}

fn with_header(change: impl FnOnce(&mut wire::AdapterHeader)) -> Vec<Part> {
    let mut parts = parts("attention", 1);
    if let Part::Header(header) = &mut parts[0] {
        change(header);
    }
    parts
}

fn check_status<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, expected: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(
        status.message().contains(expected),
        "expected {expected:?} in {status:?}"
    );
}

#[tokio::test]
async fn load_list_and_unload() {
    let server = AdapterServer::ready().await;
    for adapter in ADAPTERS {
        assert_eq!(server.send(parts(adapter, 7)).await.unwrap(), 7);
    }
    let user = server.registry.get("tiny", "attention", Some(7)).unwrap();
    let adapters = server.list().await;
    let told: Vec<_> = adapters
        .iter()
        .map(|a| (a.name.as_str(), a.rank, a.running_sequences))
        .collect();
    assert_eq!(
        told,
        [
            ("all-linear", 8, 0),
            ("attention", 16, 1),
            ("stabilised", 6, 0)
        ]
    );
    let attention = &adapters[1];
    // Four modules of two layers: 64 or 32 outputs and 64 inputs each.
    // In the 16 bits of its file.
    assert_eq!(attention.bytes, 2 * 2 * 16 * (4 * 64 + 2 * 64 + 2 * 32));
    assert_eq!(
        (attention.generation, attention.model.as_str()),
        (7, "tiny")
    );
    assert_eq!(attention.sha256, user.sha256);

    server.unload("attention").await.unwrap();
    check_status(
        server.unload("attention").await,
        Code::NotFound,
        "is not loaded",
    );
    assert_eq!(server.list().await.len(), 2);
    assert_eq!(user.adapter.rank(), 16);
    server.send(parts("attention", 7)).await.unwrap();
}

#[tokio::test]
async fn generations() {
    let server = AdapterServer::ready().await;
    server.send(parts("attention", 2)).await.unwrap();
    check_status(
        server.send(parts("attention", 1)).await,
        Code::FailedPrecondition,
        "generation 2",
    );
    assert_eq!(server.send(parts("attention", 3)).await.unwrap(), 3);

    // What is loaded is answered at once: before the parts have come, and however many there are.
    let header = parts("attention", 3).remove(0);
    assert_eq!(
        server
            .send_and_hang(vec![header.clone()], PATIENCE)
            .await
            .unwrap(),
        3
    );
    let mut many = vec![Part::Content(vec![0; ADAPTER_PART_BYTES_MAX]); 64];
    many.insert(0, header);
    assert_eq!(server.send(many).await.unwrap(), 3);
}

#[tokio::test]
async fn malformed_transfers() {
    let server = AdapterServer::ready().await;
    let invalid = |parts, expected| (parts, Code::InvalidArgument, expected);
    let content = |bytes: usize| Part::Content(vec![0; bytes]);
    let good = || parts("attention", 1);
    for (parts, code, expected) in [
        invalid(vec![], "\"part\" must be the header first"),
        invalid(good().split_off(1), "\"part\" must be the header first"),
        invalid(
            [good(), good()].concat(),
            "\"part\" must be the header first",
        ),
        invalid(
            vec![good().remove(0), content(ADAPTER_PART_BYTES_MAX + 1)],
            "\"content\" holds 1048577 bytes",
        ),
        invalid([good(), vec![content(1)]].concat(), "more came"),
        invalid(vec![good().remove(0)], "fewer came"),
        invalid(
            [good()[..1].to_vec(), good()[2..].to_vec()].concat(),
            "fewer came",
        ),
        invalid(
            with_header(|header| header.sha256 = "0".repeat(64)),
            "the digest of the content",
        ),
        invalid(
            with_header(|header| header.sha256 = "A".repeat(64)),
            "\"sha256\"",
        ),
        invalid(
            with_header(|header| header.generation = 0),
            "\"generation\"",
        ),
        invalid(
            with_header(|header| header.name = String::new()),
            "\"name\"",
        ),
        invalid(
            with_header(|header| header.content_bytes = u64::MAX),
            "\"content_bytes\"",
        ),
        invalid(
            with_header(|header| header.content_bytes = 1 << 30),
            "67108864 are allowed",
        ),
        invalid(
            with_header(|header| header.config_json = "{}".into()),
            "\"attention\" cannot be used",
        ),
        invalid(
            with_header(|header| {
                header.config_json = header
                    .config_json
                    .replace("\"use_dora\": false", "\"use_dora\": true")
            }),
            "option \"use_dora\" is not supported",
        ),
        (
            with_header(|header| header.model = "other".into()),
            Code::NotFound,
            "no language model \"other\"",
        ),
    ] {
        check_status(server.send(parts).await, code, expected);
        assert!(server.list().await.is_empty());
    }
    let empty = tokio_stream::iter([wire::LoadAdapterRequest { part: None }]);
    check_status(
        server.client.clone().load_adapter(empty).await,
        Code::InvalidArgument,
        "\"part\"",
    );
    assert_eq!(server.send_soon(good()).await, 1);
}

#[tokio::test]
async fn senders_that_stop_in_the_middle() {
    let server = AdapterServer::ready().await;
    let half = || parts("all-linear", 1)[..3].to_vec();
    // The deadline passes.
    let late = server
        .send_and_hang(half(), Duration::from_millis(200))
        .await;
    assert!(matches!(
        late.unwrap_err().code(),
        Code::DeadlineExceeded | Code::Cancelled
    ));
    assert_eq!(server.send_soon(parts("all-linear", 1)).await, 1);
    server.unload("all-linear").await.unwrap();

    // The sender leaves; until then it keeps its name.
    let first = server.send_and_hang(half(), PATIENCE);
    let second = async {
        server.wait_for_sender("all-linear").await;
        server.send(parts("all-linear", 1)).await.unwrap_err()
    };
    let refused = tokio::select! {
        ended = first => panic!("the hanging sender ended: {ended:?}"),
        refused = second => refused,
    };
    assert_eq!(refused.code(), Code::Aborted);
    assert!(refused.metadata().contains_key("retry-after-ms"));
    assert_eq!(server.send_soon(parts("all-linear", 1)).await, 1);
}

#[tokio::test]
async fn before_and_after_service() {
    let server = AdapterServer::start().await;
    check_status(
        server.send(parts("attention", 1)).await,
        Code::Unavailable,
        "starting",
    );
    check_status(
        server.unload("attention").await,
        Code::Unavailable,
        "starting",
    );
    server.service.readiness().set_ready();
    server.send(parts("attention", 1)).await.unwrap();
    server.service.readiness().set_stopping();
    check_status(
        server.send(parts("attention", 2)).await,
        Code::Unavailable,
        "stopping",
    );
}

#[tokio::test]
async fn the_typed_client_sends_adapters() {
    let server = AdapterServer::ready().await;
    let socket = server.folder.path().join("socket");
    let mut client = proto::client::SidecarClient::connect(&socket, PATIENCE)
        .await
        .unwrap();
    let (config, content) = peft_fixture::adapter_files("stabilised");
    let header = AdapterHeader {
        model: ModelChoice::Named("tiny".into()),
        ..peft_fixture::header("Rücklauf 1", 1, config, &content)
    };
    let parts: Vec<_> = content
        .chunks(ADAPTER_PART_BYTES_MAX)
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(
        client
            .load_adapter(header, parts.into_iter(), PATIENCE)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        client.adapters(PATIENCE).await.unwrap()[0].name,
        "Rücklauf 1"
    );
    client.unload_adapter("Rücklauf 1", PATIENCE).await.unwrap();
}
