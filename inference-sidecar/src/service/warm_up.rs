//! The proof of readiness: every model answers one request that takes the way of all others.

use proto::wire;
use proto::wire::generate_response::Event;
use tokio_stream::StreamExt;
use tonic::{Request, Status};

use crate::error::Error;
use crate::service::Service;

const TEXT: &str = "warm up";

impl Service {
    /// Makes a vector with each embedding model, a score with each reranking model and a token with each language model
    /// of this server; fails with the first that does not answer. Done once, after the catalog is published.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let inside = Self {
            is_warm_up: true,
            ..self.clone()
        };
        let catalog = self.catalog().ok_or(Error::Starting)?;
        for entry in &catalog.embedding {
            let name = &entry.card.name;
            let made = inside.make_vector(name).await;
            made.map_err(|status| unanswered(name, &status))?;
        }
        for entry in &catalog.reranking {
            let name = &entry.card.name;
            let made = inside.make_score(name).await;
            made.map_err(|status| unanswered(name, &status))?;
        }
        for entry in &catalog.language {
            let name = &entry.card.name;
            let made = inside.make_token(name).await;
            made.map_err(|status| unanswered(name, &status))?;
        }
        Ok(())
    }

    async fn make_vector(&self, model: &str) -> Result<(), Status> {
        let request = wire::EmbedRequest {
            model: model.to_owned(),
            texts: vec![TEXT.to_owned()],
            priority: wire::Priority::Interactive.into(),
            ..Default::default()
        };
        let response = self.embed_texts(Request::new(request)).await?;
        match response.embeddings.first() {
            Some(embedding) if embedding.values.iter().all(|value| value.is_finite()) => Ok(()),
            _ => Err(Error::NotANumber.into()),
        }
    }

    async fn make_score(&self, model: &str) -> Result<(), Status> {
        let request = wire::RerankRequest {
            model: model.to_owned(),
            query: TEXT.to_owned(),
            passages: vec![TEXT.to_owned()],
            priority: wire::Priority::Interactive.into(),
            ..Default::default()
        };
        self.rerank_passages(Request::new(request)).await?;
        Ok(())
    }

    async fn make_token(&self, model: &str) -> Result<(), Status> {
        let message = wire::Message {
            role: "user".to_owned(),
            content: TEXT.to_owned(),
        };
        let request = wire::GenerateRequest {
            model: model.to_owned(),
            messages: vec![message],
            tokens_max: 1,
            priority: wire::Priority::Interactive.into(),
            ..Default::default()
        };
        let mut events = self.start_generation(Request::new(request)).await?;
        while let Some(event) = events.next().await {
            // The end comes after a token, be it the one that ends a turn.
            if let Some(Event::Finished(_)) = event?.event {
                return Ok(());
            }
        }
        Err(Error::WorkerPanicked.into())
    }
}

fn unanswered(model: &str, status: &Status) -> Error {
    Error::Setup {
        part: "the models",
        source: format!("model \"{model}\" does not answer: {status}").into(),
    }
}
