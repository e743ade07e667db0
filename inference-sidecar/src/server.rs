//! The life of the process: bind, answer status calls, load the models, serve, drain, leave.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proto::limits;
use proto::wire::FILE_DESCRIPTOR_SET;
use proto::wire::inference_service_server::InferenceServiceServer;
use tokio::net::UnixListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::error::Error;
use crate::metrics::{Metrics, endpoint};
use crate::remote::RemoteListener;
use crate::router::Router;
use crate::scheduler::{Counters, Worker};
use crate::service::Service;
use crate::startup::Loaded;
use crate::{shutdown, socket, startup};

/// How long running requests may go on after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the drain looks whether they have ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long clients may take to close their connections after that.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How often the metrics of upstreams are brought up to date.
const UPSTREAM_POLL: Duration = Duration::from_secs(1);

const SERVICE_NAME: &str = "salesai.inference.v1.InferenceService";

/// Serves until SIGTERM or SIGINT, or fails when a model cannot be loaded.
pub async fn run(config: Config) -> Result<(), Error> {
    let signals = shutdown::signals()?;
    let (listener, _socket_file) = socket::bind(&config.socket)?;
    let remote = RemoteListener::bind(&config)?;
    let counters = Arc::new(Counters::new(config.queue_size));
    let metrics = Metrics::new();
    let router = Router::new(&config.router())?;
    let service = Service::new(counters.clone(), metrics.clone(), router);
    let _checks = service.router().start_health_checks();
    let watch_upstreams = tokio::spawn(watch_upstreams(service.clone()));
    let scrapes = serve_metrics(&config, metrics, &service).await?;
    let health = HealthReporter::new();
    set_health(&health, ServingStatus::NotServing).await;

    let mut workers = Vec::new();
    let (stop, stopped) = watch::channel(());
    let routes = routes(service.clone(), health.clone())?;
    let mut transport = tokio::spawn(serve(listener, remote, routes, stopped));
    let outcome = tokio::select! {
        signal = signals => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        result = load_and_serve(config, counters, &service, &health, &mut workers) => result,
        ended = &mut transport => flatten(ended),
    };

    service.readiness().set_stopping();
    set_health(&health, ServingStatus::NotServing).await;
    let is_idle = match service.catalog() {
        Some(catalog) => drain(catalog, service.counters()).await,
        None => true,
    };
    watch_upstreams.abort();
    drop(stop);
    if !transport.is_finished()
        && tokio::time::timeout(CLOSE_TIMEOUT, &mut transport)
            .await
            .is_err()
    {
        transport.abort();
    }
    // A worker that is still busy ends with the process.
    if is_idle {
        workers.into_iter().for_each(Worker::join);
    }
    if let Some(scrapes) = scrapes {
        scrapes.abort();
        // Until it is gone, and its socket with it.
        let _ = scrapes.await;
    }
    tracing::info!("stopped");
    outcome
}

/// Starts the answers to `/metrics`, `/health` and `/ready`, if they are wanted.
async fn serve_metrics(
    config: &Config,
    metrics: Metrics,
    service: &Service,
) -> Result<Option<JoinHandle<()>>, Error> {
    let Some(address) = &config.metrics_listen else {
        return Ok(None);
    };
    let listener = endpoint::bind(address).await?;
    let service = service.clone();
    let state = move || service.readiness().state();
    Ok(Some(tokio::spawn(endpoint::serve(
        listener, metrics, state,
    ))))
}

/// Loads the models, declares the server ready and then waits for ever: only an error ends it.
async fn load_and_serve(
    config: Config,
    counters: Arc<Counters>,
    service: &Service,
    health: &HealthReporter,
    workers: &mut Vec<Worker>,
) -> Result<(), Error> {
    let loaded = load_on_thread(config, counters, service.metrics().clone()).await?;
    workers.extend(loaded.workers);
    service.publish_adapters(Arc::new(loaded.adapters));
    service.publish(loaded.catalog);
    service.warm_up().await?;
    if service.readiness().set_ready() {
        set_health(health, ServingStatus::Serving).await;
        tracing::info!("ready");
    }
    std::future::pending().await
}

async fn load_on_thread(
    config: Config,
    counters: Arc<Counters>,
    metrics: Metrics,
) -> Result<Loaded, Error> {
    let (done, loaded) = oneshot::channel();
    // Not a task of the runtime: a stopping server does not wait for it.
    let load = move || {
        // Nobody listens when the server stops while models load.
        let _ = done.send(startup::load(&config, &counters, &metrics));
    };
    std::thread::Builder::new()
        .name("load models".into())
        .spawn(load)
        .map_err(|source| Error::Setup {
            part: "loading thread",
            source: source.into(),
        })?;
    loaded.await.map_err(|_| Error::WorkerPanicked)?
}

/// The services of both doors.
fn routes(service: Service, health: HealthReporter) -> Result<Routes, Error> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|source| Error::Setup {
            part: "reflection",
            source: source.into(),
        })?;
    let health = tonic_health::server::HealthService::from_health_reporter(health);
    let inference = InferenceServiceServer::new(service)
        .max_decoding_message_size(limits::MESSAGE_SIZE_MAX)
        .max_encoding_message_size(limits::MESSAGE_SIZE_MAX);
    Ok(
        Routes::new(tonic_health::pb::health_server::HealthServer::new(health))
            .add_service(reflection)
            .add_service(inference),
    )
}

/// Serves at the socket, and to other machines where the configuration says so, until `stopped` closes.
async fn serve(
    listener: UnixListener,
    remote: Option<RemoteListener>,
    routes: Routes,
    stopped: watch::Receiver<()>,
) -> Result<(), Error> {
    let local = async {
        Server::builder()
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                closed(stopped.clone()),
            )
            .await?;
        Ok(())
    };
    let remote = async {
        match remote {
            Some(remote) => remote.serve(routes.clone(), closed(stopped.clone())).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(local, remote)?;
    Ok(())
}

async fn closed(mut stopped: watch::Receiver<()>) {
    // Nothing is ever sent: it returns when the sender is dropped.
    let _ = stopped.changed().await;
}

/// Fails waiting requests and lets running ones end within the time limit; true when all have.
async fn drain(catalog: &Catalog, counters: &Counters) -> bool {
    catalog.close_queues();
    let idle = async {
        loop {
            // First sleep, then look: a job may be on its way from the queue to its worker.
            tokio::time::sleep(DRAIN_POLL).await;
            if counters.load().running == 0 {
                break;
            }
        }
    };
    let is_idle = tokio::time::timeout(DRAIN_TIMEOUT, idle).await.is_ok();
    if !is_idle {
        tracing::warn!(
            running = counters.load().running,
            "requests still running at the end"
        );
    }
    is_idle
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    health.set_service_status(SERVICE_NAME, status).await;
}

fn flatten(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.map_err(|_| Error::WorkerPanicked)?
}

/// Copies the state of upstreams to the metrics.
async fn watch_upstreams(service: Service) {
    let mut seen: HashMap<String, (u64, u64)> = HashMap::new();
    loop {
        for status in service.router().status() {
            let metrics = service.metrics().upstream(&status.upstream);
            metrics.set_outstanding_tokens(status.outstanding_tokens);
            metrics.set_breaker(status.breaker);
            let failed = status.failed_requests + status.broken_answers;
            let (requests_before, failed_before) = seen
                .insert(status.upstream, (status.requests, failed))
                .unwrap_or_default();
            (requests_before..status.requests).for_each(|_| metrics.requested());
            (failed_before..failed).for_each(|_| metrics.failed());
        }
        tokio::time::sleep(UPSTREAM_POLL).await;
    }
}
