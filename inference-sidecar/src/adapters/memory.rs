//! The books of the registry: what is loaded, in use, on its way, and what may go for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::registry::{AdapterCard, LoadedAdapter};

/// Name and model of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub name: String,
    pub model: String,
}

/// All under the registry's lock.
pub(super) struct Memory {
    count_max: usize,
    bytes_max: u64,
    loaded: BTreeMap<Key, Slot>,
    /// Adapters that no request finds any more and some still use.
    retired: Vec<Retired>,
    in_transit: BTreeMap<Key, Transit>,
    /// Counts uses.
    clock: u64,
}

struct Slot {
    adapter: Arc<LoadedAdapter>,
    last_use: u64,
}

struct Retired {
    adapter: Weak<LoadedAdapter>,
    bytes: u64,
}

/// A transfer that runs.
struct Transit {
    /// What its sender has announced.
    content_bytes: u64,
    /// What it will take in memory; None: not known yet.
    reserved_bytes: Option<u64>,
}

impl Key {
    pub(super) fn new(model: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: model.to_owned(),
        }
    }
}

impl Memory {
    pub(super) fn new(count_max: usize, bytes_max: u64) -> Self {
        Self {
            count_max,
            bytes_max,
            loaded: BTreeMap::new(),
            retired: Vec::new(),
            in_transit: BTreeMap::new(),
            clock: 0,
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<&LoadedAdapter> {
        Some(&self.loaded.get(key)?.adapter)
    }

    /// The adapter, as the one that was used last.
    pub(super) fn touch(&mut self, key: &Key) -> Option<Arc<LoadedAdapter>> {
        let slot = self.loaded.get_mut(key)?;
        self.clock += 1;
        slot.last_use = self.clock;
        Some(Arc::clone(&slot.adapter))
    }

    pub(super) fn cards(&self) -> Vec<AdapterCard> {
        let slots = self.loaded.values();
        slots.map(|slot| AdapterCard::new(&slot.adapter)).collect()
    }

    pub(super) fn is_in_transit(&self, key: &Key) -> bool {
        self.in_transit.contains_key(key)
    }

    /// False when what is on its way together would be too much.
    pub(super) fn begin_transit(&mut self, key: &Key, content_bytes: u64) -> bool {
        let others: u64 = self.in_transit.values().map(|t| t.content_bytes).sum();
        if others.saturating_add(content_bytes) > self.bytes_max {
            return false;
        }
        let transit = Transit {
            content_bytes,
            reserved_bytes: None,
        };
        self.in_transit.insert(key.clone(), transit);
        true
    }

    pub(super) fn end_transit(&mut self, key: &Key) {
        self.in_transit.remove(key);
    }

    /// Reserves memory for a transfer and returns what was evicted for it; false when all that is
    /// left is in use.
    pub(super) fn reserve(&mut self, key: &Key, bytes: u64) -> (bool, Vec<Arc<LoadedAdapter>>) {
        let mut evicted = Vec::new();
        while !self.has_room(key, bytes) {
            let Some(victim) = self.least_recently_used(key) else {
                return (false, evicted);
            };
            evicted.extend(self.loaded.remove(&victim).map(|slot| slot.adapter));
        }
        if let Some(transit) = self.in_transit.get_mut(key) {
            transit.reserved_bytes = Some(bytes);
        }
        (true, evicted)
    }

    /// Ends a transfer with its adapter; returns the older generation.
    pub(super) fn install(
        &mut self,
        key: Key,
        adapter: Arc<LoadedAdapter>,
    ) -> Option<Arc<LoadedAdapter>> {
        self.end_transit(&key);
        self.clock += 1;
        let slot = Slot {
            adapter,
            last_use: self.clock,
        };
        let replaced = self.loaded.insert(key, slot)?.adapter;
        self.retire(&replaced);
        Some(replaced)
    }

    /// Takes out the adapters with this name.
    pub(super) fn remove(&mut self, name: &str) -> Vec<Arc<LoadedAdapter>> {
        let is_named = |key: &&Key| key.name == name;
        let keys: Vec<Key> = self.loaded.keys().filter(is_named).cloned().collect();
        let slots = keys.iter().filter_map(|key| self.loaded.remove(key));
        let removed: Vec<_> = slots.map(|slot| slot.adapter).collect();
        removed.iter().for_each(|adapter| self.retire(adapter));
        removed
    }

    fn retire(&mut self, adapter: &Arc<LoadedAdapter>) {
        self.retired.push(Retired {
            adapter: Arc::downgrade(adapter),
            bytes: adapter.adapter.bytes(),
        });
    }

    fn has_room(&mut self, key: &Key, bytes: u64) -> bool {
        self.retired
            .retain(|retired| retired.adapter.strong_count() > 0);
        let loaded = self
            .loaded
            .values()
            .map(|slot| slot.adapter.adapter.bytes());
        let retired = self.retired.iter().map(|retired| retired.bytes);
        let reserved = self.in_transit.values().filter_map(|t| t.reserved_bytes);
        let used: u64 = loaded.chain(retired).chain(reserved).sum();
        // One that replaces another takes its place, but for a moment not its memory.
        let is_new = |key: &Key| !self.loaded.contains_key(key);
        let coming = self.in_transit.iter();
        let coming =
            coming.filter(|(key, transit)| transit.reserved_bytes.is_some() && is_new(key));
        let count = self.loaded.len() + coming.count() + usize::from(is_new(key));
        used.saturating_add(bytes) <= self.bytes_max && count <= self.count_max
    }

    /// The adapter that may go first: nobody uses it, and it is not the one that `key` replaces
    /// unless no other is left.
    fn least_recently_used(&self, key: &Key) -> Option<Key> {
        // Users come only through this lock, so an unused adapter stays unused meanwhile.
        let unused = |slot: &Slot| Arc::strong_count(&slot.adapter) == 1;
        let candidates = self.loaded.iter().filter(|(_, slot)| unused(slot));
        let first = candidates.min_by_key(|(other, slot)| (*other == key, slot.last_use));
        first.map(|(key, _)| key.clone())
    }
}
