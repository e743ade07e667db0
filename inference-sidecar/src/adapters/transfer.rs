//! An adapter on its way: its bytes grow as they come, and dropping it leaves nothing.

use std::sync::Arc;
use std::time::Instant;

use proto::model::{AdapterHeader, InvalidRequest};
use sha2::{Digest, Sha256};

use super::memory::Key;
use super::registry::{AdapterRegistry, LoadedAdapter};
use crate::error::Error;
use crate::models::{AdapterBase, PeftAdapter, hex};

/// The right to send one adapter.
pub struct Transfer {
    registry: Arc<AdapterRegistry>,
    key: Key,
    base: AdapterBase,
    header: AdapterHeader,
    identity: [u8; 32],
    content: Vec<u8>,
    start: Instant,
}

impl Transfer {
    pub(super) fn new(
        registry: Arc<AdapterRegistry>,
        key: Key,
        base: AdapterBase,
        header: AdapterHeader,
        identity: [u8; 32],
    ) -> Self {
        Self {
            registry,
            key,
            base,
            header,
            identity,
            content: Vec::new(),
            start: Instant::now(),
        }
    }

    /// Adds a part; fails when there is more than announced.
    pub fn append(&mut self, part: &[u8]) -> Result<(), Error> {
        let announced = self.header.content_bytes as usize;
        let length = self.content.len() + part.len();
        if length > announced {
            return Err(wrong(
                "content_bytes",
                "the number of bytes sent, more came",
            ));
        }
        if length > self.content.capacity() {
            // Doubles what has arrived, never beyond what was announced.
            let capacity = length.max(announced.min(2 * self.content.capacity()));
            self.content.reserve_exact(capacity - self.content.len());
        }
        self.content.extend_from_slice(part);
        Ok(())
    }

    /// Checks, parses and unpacks the bytes and makes the adapter usable; returns its generation.
    /// Takes up to seconds of computing: not for the async threads.
    pub fn finish(mut self) -> Result<u64, Error> {
        if (self.content.len() as u64) < self.header.content_bytes {
            return Err(wrong(
                "content_bytes",
                "the number of bytes sent, fewer came",
            ));
        }
        if hex(&Sha256::digest(&self.content)) != self.header.sha256 {
            return Err(wrong("sha256", "the digest of the content"));
        }
        let content = std::mem::take(&mut self.content);
        let peft = PeftAdapter::parse(&self.header.config_json, content)
            .and_then(|peft| self.check(peft))
            .map_err(|reason| self.unusable(reason))?;
        self.registry.reserve(&self.key, peft.packed_bytes())?;
        let adapter = peft.fit(&self.base)?;

        let generation = self.header.generation;
        tracing::info!(
            model = self.key.model,
            adapter = self.key.name,
            generation,
            rank = adapter.rank(),
            content_bytes = self.header.content_bytes,
            bytes = adapter.bytes(),
            run_ms = self.start.elapsed().as_millis() as u64,
            "adapter loaded"
        );
        let loaded = LoadedAdapter {
            name: self.key.name.clone(),
            generation,
            model: self.key.model.clone(),
            sha256: self.header.sha256.clone(),
            identity: self.identity,
            adapter: Arc::new(adapter),
        };
        self.registry.install(self.key.clone(), loaded);
        Ok(generation)
    }

    /// Bytes that the buffer takes now.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.content.capacity()
    }

    fn check(&self, peft: PeftAdapter) -> Result<PeftAdapter, String> {
        let (rank, rank_max) = (peft.rank(), self.registry.rank_max());
        if rank > rank_max {
            return Err(format!("its rank is {rank}, at most {rank_max} is allowed"));
        }
        peft.check(&self.base)?;
        Ok(peft)
    }

    fn unusable(&self, reason: String) -> Error {
        let name = self.key.name.clone();
        Error::AdapterUnusable { name, reason }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.registry.abandon(&self.key);
    }
}

fn wrong(field: &'static str, expected: &'static str) -> Error {
    InvalidRequest::Value { field, expected }.into()
}
