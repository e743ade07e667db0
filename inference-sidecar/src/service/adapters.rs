//! LoadAdapter, UnloadAdapter and ListAdapters: bytes in, names out.

use std::sync::Arc;

use proto::model::{AdapterHeader, InvalidRequest};
use proto::wire::load_adapter_request::Part;
use proto::{limits, wire};
use tokio_stream::Stream;
use tonic::Status;

use crate::adapters::{AdapterCard, AdapterRegistry, Admission};
use crate::error::Error;
use crate::service::Service;
use crate::service::parts::{next_part, out_of_order};

impl Service {
    /// Makes adapters usable; done once, before the models are published.
    pub fn publish_adapters(&self, adapters: Arc<AdapterRegistry>) {
        let published = self.shared.adapters.set(adapters);
        assert!(published.is_ok(), "the adapters are published once");
    }

    /// The adapters, if new work is taken now.
    pub(super) fn open_adapters(&self) -> Result<&Arc<AdapterRegistry>, Error> {
        match self.readiness().state() {
            wire::ServerState::Ready => self.shared.adapters.get().ok_or(Error::Starting),
            wire::ServerState::Stopping => Err(Error::Stopping),
            wire::ServerState::Starting | wire::ServerState::Unspecified => Err(Error::Starting),
        }
    }

    pub(super) async fn receive_adapter(
        &self,
        mut parts: impl Stream<Item = Result<wire::LoadAdapterRequest, Status>> + Unpin,
    ) -> Result<wire::LoadAdapterResponse, Status> {
        let Some(Part::Header(header)) = next_part(&mut parts, |message| message.part).await?
        else {
            return Err(out_of_order().into());
        };
        let header = AdapterHeader::try_from(header).map_err(Error::from)?;
        let mut transfer = match self.open_adapters()?.begin(header)? {
            Admission::Loaded(generation) => return Ok(wire::LoadAdapterResponse { generation }),
            Admission::Transfer(transfer) => transfer,
        };
        while let Some(part) = next_part(&mut parts, |message| message.part).await? {
            let Part::Content(content) = part else {
                return Err(out_of_order().into());
            };
            check_part(&content)?;
            transfer.append(&content)?;
        }
        // Goes on to its end when the caller leaves now: all bytes have come.
        let finished = tokio::task::spawn_blocking(move || transfer.finish());
        let generation = finished.await.map_err(|_| Error::WorkerPanicked)??;
        Ok(wire::LoadAdapterResponse { generation })
    }

    pub(super) fn drop_adapter(
        &self,
        request: wire::UnloadAdapterRequest,
    ) -> Result<wire::UnloadAdapterResponse, Error> {
        self.open_adapters()?.remove(&request.name)?;
        Ok(wire::UnloadAdapterResponse {})
    }

    pub(super) fn adapters(&self) -> Result<wire::ListAdaptersResponse, Error> {
        let cards = self.open_adapters()?.list();
        Ok(wire::ListAdaptersResponse {
            adapters: cards.into_iter().map(wire::Adapter::from).collect(),
        })
    }
}

impl From<AdapterCard> for wire::Adapter {
    fn from(card: AdapterCard) -> Self {
        Self {
            name: card.name,
            generation: card.generation,
            model: card.model,
            sha256: card.sha256,
            rank: card.rank as u32,
            bytes: card.bytes,
            running_sequences: card.users as u32,
        }
    }
}

fn check_part(content: &[u8]) -> Result<(), Error> {
    let (bytes, max) = (content.len(), limits::ADAPTER_PART_BYTES_MAX);
    match bytes <= max {
        true => Ok(()),
        false => Err(InvalidRequest::Size {
            field: "content",
            max,
            bytes,
        }
        .into()),
    }
}
