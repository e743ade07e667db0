//! Finds adapters by name and admits new ones, one sender per name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::model::{AdapterHeader, ModelChoice};
use sha2::{Digest, Sha256};

use super::memory::{Key, Memory};
use super::transfer::Transfer;
use crate::error::Error;
use crate::models::{Adapter, AdapterBase};

/// When a sender may try again whose adapter has no room now.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What the adapters of a server may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterLimits {
    /// Adapters in memory.
    pub count_max: usize,
    /// Rank of any module.
    pub rank_max: usize,
    /// Bytes of all adapters in memory, older generations that are still in use among them. What
    /// arrives may take the same again.
    pub bytes_max: u64,
}

/// An adapter in memory. Whoever runs with it holds its `Arc`.
pub struct LoadedAdapter {
    pub name: String,
    /// 1 or more; grows with each version.
    pub generation: u64,
    /// The model it belongs to.
    pub model: String,
    /// SHA-256 of its safetensors file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of file and configuration: adapters of one model that share it compute the same.
    pub identity: [u8; 32],
    pub adapter: Arc<Adapter>,
}

/// What clients may know of a loaded adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterCard {
    pub name: String,
    pub generation: u64,
    pub model: String,
    /// SHA-256 of its safetensors file, lower-case hex.
    pub sha256: String,
    /// Highest rank of its modules.
    pub rank: usize,
    /// Bytes of its matrices in memory.
    pub bytes: u64,
    /// Holders of its `Arc`.
    pub users: usize,
}

/// The answer to who wants to send an adapter.
pub enum Admission {
    /// This generation is in memory already.
    Loaded(u64),
    /// The bytes may come.
    Transfer(Box<Transfer>),
}

/// The adapters of all models; shared by the service and the engines.
pub struct AdapterRegistry {
    /// The models that take adapters, the default first.
    bases: Vec<(String, AdapterBase)>,
    limits: AdapterLimits,
    memory: Mutex<Memory>,
}

impl AdapterRegistry {
    /// A registry without adapters for the models `bases`, the default first.
    pub fn new(bases: Vec<(String, AdapterBase)>, limits: AdapterLimits) -> Self {
        Self {
            bases,
            limits,
            memory: Mutex::new(Memory::new(limits.count_max, limits.bytes_max)),
        }
    }

    /// Admits the sender of an adapter. The name is taken until the transfer ends or is dropped.
    ///
    /// Fails with [`Error::AdapterInTransit`] when another sender is at work,
    /// [`Error::AdapterOutdated`] when a newer generation is loaded, [`Error::AdapterRoom`] when it
    /// can never fit and [`Error::AdaptersBusy`] when it may fit later.
    pub fn begin(self: &Arc<Self>, header: AdapterHeader) -> Result<Admission, Error> {
        let (model, base) = self.base(&header.model)?;
        let key = Key::new(model, &header.name);
        let identity = identity(&header);
        let mut memory = self.lock();
        if let Some(loaded) = memory.find(&key) {
            if loaded.generation > header.generation {
                return Err(outdated(loaded));
            }
            if loaded.generation == header.generation {
                return match loaded.identity == identity {
                    true => Ok(Admission::Loaded(header.generation)),
                    false => Err(Error::AdapterUnusable {
                        name: header.name,
                        reason: format!(
                            "generation {} is loaded with other content",
                            header.generation
                        ),
                    }),
                };
            }
        }
        if memory.is_in_transit(&key) {
            return Err(Error::AdapterInTransit { name: header.name });
        }
        if header.content_bytes > self.limits.bytes_max {
            return Err(self.no_room(header.content_bytes));
        }
        if !memory.begin_transit(&key, header.content_bytes) {
            return Err(Error::AdaptersBusy {
                retry_after: RETRY_AFTER,
            });
        }
        drop(memory);
        let registry = Arc::clone(self);
        let transfer = Transfer::new(registry, key, *base, header, identity);
        Ok(Admission::Transfer(Box::new(transfer)))
    }

    /// The adapter `name` of `model`; counts as a use. `generation` None: the one that is loaded.
    ///
    /// Fails with [`Error::AdapterNotFound`] when it is not loaded or older than wanted, and with
    /// [`Error::AdapterOutdated`] when the loaded one is newer.
    pub fn get(
        &self,
        model: &str,
        name: &str,
        generation: Option<u64>,
    ) -> Result<Arc<LoadedAdapter>, Error> {
        let not_found = || Error::AdapterNotFound {
            name: name.to_owned(),
        };
        let loaded = self
            .lock()
            .touch(&Key::new(model, name))
            .ok_or_else(not_found)?;
        match generation {
            Some(wanted) if loaded.generation < wanted => Err(not_found()),
            Some(wanted) if loaded.generation > wanted => Err(outdated(&loaded)),
            _ => Ok(loaded),
        }
    }

    /// Drops the adapter `name` of every model; sequences that run with it go on.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        // Freed after the lock.
        let removed = self.lock().remove(name);
        if removed.is_empty() {
            return Err(Error::AdapterNotFound {
                name: name.to_owned(),
            });
        }
        for adapter in removed {
            log("adapter unloaded", &adapter);
        }
        Ok(())
    }

    /// The loaded adapters, by name.
    pub fn list(&self) -> Vec<AdapterCard> {
        self.lock().cards()
    }

    /// Finds room for `bytes` under `key`, whose transfer runs; what is evicted is logged.
    pub(super) fn reserve(&self, key: &Key, bytes: u64) -> Result<(), Error> {
        if bytes > self.limits.bytes_max {
            return Err(self.no_room(bytes));
        }
        let (is_reserved, evicted) = self.lock().reserve(key, bytes);
        for adapter in evicted {
            log("adapter evicted", &adapter);
        }
        match is_reserved {
            true => Ok(()),
            false => Err(Error::AdaptersBusy {
                retry_after: RETRY_AFTER,
            }),
        }
    }

    /// Makes an adapter the one that new requests find; its transfer has ended with this.
    pub(super) fn install(&self, key: Key, adapter: LoadedAdapter) {
        // Freed after the lock.
        let replaced = self.lock().install(key, Arc::new(adapter));
        drop(replaced);
    }

    /// Forgets a transfer that has not installed its adapter.
    pub(super) fn abandon(&self, key: &Key) {
        self.lock().end_transit(key);
    }

    pub(super) fn rank_max(&self) -> usize {
        self.limits.rank_max
    }

    fn base(&self, choice: &ModelChoice) -> Result<(&str, &AdapterBase), Error> {
        let mut bases = self.bases.iter();
        let found = match choice.name() {
            None => bases.next(),
            Some(name) => bases.find(|(model, _)| model == name),
        };
        let (model, base) = found.ok_or_else(|| Error::ModelNotFound {
            kind: "language",
            name: choice.name().unwrap_or("(default)").to_owned(),
        })?;
        Ok((model, base))
    }

    fn no_room(&self, bytes: u64) -> Error {
        Error::AdapterRoom {
            bytes,
            bytes_max: self.limits.bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdapterCard {
    pub(super) fn new(adapter: &Arc<LoadedAdapter>) -> Self {
        Self {
            name: adapter.name.clone(),
            generation: adapter.generation,
            model: adapter.model.clone(),
            sha256: adapter.sha256.clone(),
            rank: adapter.adapter.rank(),
            bytes: adapter.adapter.bytes(),
            // The registry holds one itself.
            users: Arc::strong_count(adapter) - 1,
        }
    }
}

fn outdated(loaded: &LoadedAdapter) -> Error {
    Error::AdapterOutdated {
        name: loaded.name.clone(),
        loaded: loaded.generation,
    }
}

fn identity(header: &AdapterHeader) -> [u8; 32] {
    let digest = Sha256::new_with_prefix(&header.sha256);
    digest.chain_update(&header.config_json).finalize().into()
}

fn log(event: &str, adapter: &LoadedAdapter) {
    tracing::info!(
        model = adapter.model,
        adapter = adapter.name,
        generation = adapter.generation,
        bytes = adapter.adapter.bytes(),
        "{event}"
    );
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
