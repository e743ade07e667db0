//! gRPC in, domain out: parses requests once, finds the model, hands the work to the scheduler.

mod adapters;
mod documents;
mod embed;
mod generate;
mod parts;
mod request;
mod rerank;
mod status;
mod texts;
mod warm_up;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use proto::wire;
use proto::wire::inference_service_server::InferenceService;
use tonic::{Request, Response, Status, Streaming};

use crate::adapters::AdapterRegistry;
use crate::catalog::Catalog;
use crate::documents::DocumentPool;
use crate::error::Error;
use crate::metrics::{Metrics, Rejection};
use crate::readiness::Readiness;
use crate::router::Router;
use crate::scheduler::{Counters, TextPool};

/// The state that all calls share.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
    /// The server's own calls before it is ready.
    is_warm_up: bool,
}

struct Shared {
    started: Instant,
    readiness: Readiness,
    /// Empty while models load.
    catalog: OnceLock<Catalog>,
    /// Empty while models load.
    adapters: OnceLock<Arc<AdapterRegistry>>,
    counters: Arc<Counters>,
    metrics: Metrics,
    router: Router,
    text_pool: TextPool,
    documents: DocumentPool,
}

impl Service {
    /// A service without models: it answers GetStatus and refuses the rest.
    pub fn new(counters: Arc<Counters>, metrics: Metrics, router: Router) -> Self {
        let shared = Shared {
            started: Instant::now(),
            readiness: Readiness::starting(),
            catalog: OnceLock::new(),
            adapters: OnceLock::new(),
            text_pool: TextPool::new(counters.clone()),
            documents: DocumentPool::default(),
            counters,
            metrics,
            router,
        };
        Self {
            shared: Arc::new(shared),
            is_warm_up: false,
        }
    }

    /// Makes the models known; done once.
    pub fn publish(&self, catalog: Catalog) {
        let published = self.shared.catalog.set(catalog);
        assert!(published.is_ok(), "the catalog is published once");
    }

    pub fn readiness(&self) -> &Readiness {
        &self.shared.readiness
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The models that other servers run.
    pub fn router(&self) -> &Router {
        &self.shared.router
    }

    /// The models, None while they load.
    pub fn catalog(&self) -> Option<&Catalog> {
        self.shared.catalog.get()
    }

    /// The models, if new work is taken now.
    fn open_catalog(&self) -> Result<&Catalog, Error> {
        match self.shared.readiness.state() {
            wire::ServerState::Ready => self.catalog().ok_or(Error::Starting),
            wire::ServerState::Stopping => Err(Error::Stopping),
            wire::ServerState::Starting if self.is_warm_up => self.catalog().ok_or(Error::Starting),
            wire::ServerState::Starting | wire::ServerState::Unspecified => Err(Error::Starting),
        }
    }

    /// The answer of a call, or the status of one that does not begin, which is counted.
    fn answer<T>(&self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|error| {
            let status = Status::from(error);
            if let Some(rejection) = Rejection::of(status.code()) {
                self.shared.metrics.rejected(rejection);
            }
            status
        })
    }
}

#[tonic::async_trait]
impl InferenceService for Service {
    async fn get_status(
        &self,
        _: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }

    async fn list_models(
        &self,
        _: Request<wire::ListModelsRequest>,
    ) -> Result<Response<wire::ListModelsResponse>, Status> {
        self.answer(self.models())
    }

    async fn tokenize(
        &self,
        request: Request<wire::TokenizeRequest>,
    ) -> Result<Response<wire::TokenizeResponse>, Status> {
        self.answer(self.tokenize_texts(request.into_inner()).await)
    }

    async fn count_tokens(
        &self,
        request: Request<wire::CountTokensRequest>,
    ) -> Result<Response<wire::CountTokensResponse>, Status> {
        self.answer(self.count_text_tokens(request.into_inner()).await)
    }

    async fn chunk(
        &self,
        request: Request<wire::ChunkRequest>,
    ) -> Result<Response<wire::ChunkResponse>, Status> {
        self.answer(self.chunk_text(request.into_inner()).await)
    }

    async fn embed(
        &self,
        request: Request<wire::EmbedRequest>,
    ) -> Result<Response<wire::EmbedResponse>, Status> {
        self.answer(self.embed_texts(request).await)
    }

    async fn rerank(
        &self,
        request: Request<wire::RerankRequest>,
    ) -> Result<Response<wire::RerankResponse>, Status> {
        self.answer(self.rerank_passages(request).await)
    }

    type GenerateStream = generate::Events;

    async fn generate(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        self.answer(self.start_generation(request).await)
    }

    async fn load_adapter(
        &self,
        request: Request<Streaming<wire::LoadAdapterRequest>>,
    ) -> Result<Response<wire::LoadAdapterResponse>, Status> {
        // Not counted: the caller of the generation that needs the adapter is.
        Ok(Response::new(
            self.receive_adapter(request.into_inner()).await?,
        ))
    }

    async fn unload_adapter(
        &self,
        request: Request<wire::UnloadAdapterRequest>,
    ) -> Result<Response<wire::UnloadAdapterResponse>, Status> {
        self.answer(self.drop_adapter(request.into_inner()))
    }

    async fn list_adapters(
        &self,
        _: Request<wire::ListAdaptersRequest>,
    ) -> Result<Response<wire::ListAdaptersResponse>, Status> {
        self.answer(self.adapters())
    }

    async fn read_document(
        &self,
        request: Request<Streaming<wire::ReadDocumentRequest>>,
    ) -> Result<Response<wire::ReadDocumentResponse>, Status> {
        Ok(Response::new(
            self.receive_document(request.into_inner()).await?,
        ))
    }
}
