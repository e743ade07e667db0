//! Who holds which block of keys and values, and which unused blocks may serve a later prompt.
//!
//! A full block has a *prefix key*: a digest of all tokens up to its end and of everything else that its
//! content depends on or that limits who may know of it. Blocks with a key stay findable when nobody
//! holds them, until their room is needed; the one unused for longest goes first.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use crate::metrics::KvBlocks;
use crate::models::{BlockId, KV_BLOCK_TOKENS, KV_RUN_BLOCKS};

/// Names the content of a full block. SHA-256, so that no text can be made to collide with another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixKey([u8; 32]);

/// The blocks of one model.
pub struct BlockPool {
    blocks: Vec<Block>,
    /// Unheld blocks: without a key first, then longest unused.
    free: BTreeSet<(u64, BlockId)>,
    by_key: HashMap<PrefixKey, BlockId>,
    clock: u64,
}

/// Who would hold what, were some sequences to give their blocks back.
pub struct Holdings<'a> {
    pool: &'a BlockPool,
    /// Of each block.
    holders: Vec<u32>,
    available: usize,
}

#[derive(Clone, Copy, Default)]
struct Block {
    holders: u32,
    key: Option<PrefixKey>,
    /// When it was last given back; 0 without a key.
    freed_at: u64,
}

impl PrefixKey {
    /// The beginning of a chain: what the content depends on beside the tokens, and the caller's salt.
    pub fn root(model_sha256: &str, adapter: Option<&[u8; 32]>, salt: &[u8]) -> Self {
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        part(model_sha256.as_bytes());
        part(adapter.map_or(&[], |identity| identity));
        part(salt);
        Self(digest.finalize().into())
    }

    /// The key of the block that holds `tokens` behind this prefix.
    pub fn extend(&self, tokens: &[u32]) -> Self {
        assert_eq!(tokens.len(), KV_BLOCK_TOKENS);
        let mut digest = Sha256::new();
        digest.update(self.0);
        for token in tokens {
            digest.update(token.to_le_bytes());
        }
        Self(digest.finalize().into())
    }
}

impl BlockPool {
    /// `count` free blocks.
    pub fn new(count: usize) -> Self {
        Self {
            blocks: vec![Block::default(); count],
            free: (0..count as u32).map(|id| (0, BlockId(id))).collect(),
            by_key: HashMap::new(),
            clock: 0,
        }
    }

    /// Blocks that can be taken now, cached ones included.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Who holds what now.
    pub fn holdings(&self) -> Holdings<'_> {
        Holdings {
            pool: self,
            holders: self.blocks.iter().map(|block| block.holders).collect(),
            available: self.available(),
        }
    }

    pub fn usage(&self) -> KvBlocks {
        let is_cached = |&&(_, id): &&(u64, BlockId)| self.block(id).key.is_some();
        KvBlocks {
            total: self.blocks.len(),
            used: self.blocks.len() - self.free.len(),
            cached: self.free.iter().filter(is_cached).count(),
        }
    }

    /// Holds the block with `key`, if there is one.
    pub fn take_cached(&mut self, key: &PrefixKey) -> Option<BlockId> {
        let id = *self.by_key.get(key)?;
        let block = self.blocks[id.0 as usize];
        if block.holders == 0 {
            self.free.remove(&(block.freed_at, id));
        }
        self.block_mut(id).holders += 1;
        Some(id)
    }

    /// Holds a block with undefined content; None when all are held.
    ///
    /// Neighbours are read faster than others ([`KV_RUN_BLOCKS`]), so it is the one behind `last`, the last block
    /// of the same text, or else one at the start of a run; as long as there is a block without a key.
    pub fn take_new(&mut self, last: Option<BlockId>) -> Option<BlockId> {
        let id = match self.neighbour(last) {
            Some(id) => {
                self.free.remove(&(0, id));
                id
            }
            None => self.free.pop_first()?.1,
        };
        if let Some(key) = self.block_mut(id).key.take() {
            self.by_key.remove(&key);
        }
        *self.block_mut(id) = Block {
            holders: 1,
            ..Block::default()
        };
        Some(id)
    }

    /// The unheld block without a key that serves a text best.
    fn neighbour(&self, last: Option<BlockId>) -> Option<BlockId> {
        let is_plain = |id: &BlockId| self.free.contains(&(0, *id));
        // Most pools are full of blocks with keys after a while.
        let (freed_at, _) = self.free.first()?;
        if *freed_at > 0 {
            return None;
        }
        let behind = last.map(|last| BlockId(last.0 + 1));
        let starts = (0..self.blocks.len() as u32).step_by(KV_RUN_BLOCKS);
        behind.into_iter().chain(starts.map(BlockId)).find(is_plain)
    }

    /// Makes a held, full block findable. When another block has the key already, that one stays.
    pub fn publish(&mut self, id: BlockId, key: PrefixKey) {
        assert!(self.block(id).holders > 0, "only a held block is published");
        if self.block(id).key.is_none() && !self.by_key.contains_key(&key) {
            self.by_key.insert(key, id);
            self.block_mut(id).key = Some(key);
        }
    }

    /// Gives a held block back.
    pub fn release(&mut self, id: BlockId) {
        self.clock += 1;
        let clock = self.clock;
        let block = self.block_mut(id);
        assert!(block.holders > 0, "only a held block is released");
        block.holders -= 1;
        if block.holders == 0 {
            block.freed_at = if block.key.is_some() { clock } else { 0 };
            let freed_at = block.freed_at;
            self.free.insert((freed_at, id));
        }
    }

    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }
}

impl Holdings<'_> {
    /// Blocks that could be taken, cached ones included.
    pub fn available(&self) -> usize {
        self.available
    }

    /// A holder of `blocks` lets go of them.
    pub fn give_back(&mut self, blocks: &[BlockId]) {
        for block in blocks {
            let holders = &mut self.holders[block.0 as usize];
            assert!(*holders > 0, "only a held block is given back");
            *holders -= 1;
            self.available += usize::from(*holders == 0);
        }
    }

    /// How many of the first blocks of a text could be taken over from somebody who holds them.
    /// Taking over one that nobody holds is possible too, but leaves one less for others.
    pub fn held_by_others(&self, prefix: &[PrefixKey]) -> usize {
        let found = prefix.iter().map_while(|key| self.pool.by_key.get(key));
        found.filter(|id| self.holders[id.0 as usize] > 0).count()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no block is lost, held twice by strangers, or found under a key that is not its own.

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn chain(salt: &[u8], numbers: &[u32]) -> Vec<PrefixKey> {
        let mut key = PrefixKey::root("model", None, salt);
        let mut keys = Vec::new();
        for &number in numbers {
            key = key.extend(&[number; KV_BLOCK_TOKENS]);
            keys.push(key);
        }
        keys
    }

    #[test]
    fn keys_depend_on_everything() {
        let roots = [
            PrefixKey::root("a", None, b""),
            PrefixKey::root("b", None, b""),
            PrefixKey::root("a", Some(&[1; 32]), b""),
            PrefixKey::root("a", Some(&[2; 32]), b""),
            PrefixKey::root("a", None, b"salt"),
        ];
        let keys: std::collections::HashSet<_> = roots.iter().map(|r| r.extend(&[1; 16])).collect();
        assert_eq!(keys.len(), roots.len());
        assert_ne!(chain(b"", &[1, 2])[1], chain(b"", &[3, 2])[1]);
    }

    #[test]
    fn a_shared_prefix_is_one_block() {
        let mut pool = BlockPool::new(3);
        let keys = chain(b"s", &[1, 2]);
        let first = pool.take_new(None).unwrap();
        pool.publish(first, keys[0]);
        assert_eq!(pool.take_cached(&keys[0]), Some(first));
        assert_eq!(pool.take_cached(&keys[1]), None);
        assert_eq!(pool.usage().used, 1);
        pool.release(first);
        assert_eq!(pool.usage().used, 1);
        pool.release(first);
        let usage = KvBlocks {
            total: 3,
            used: 0,
            cached: 1,
        };
        assert_eq!(pool.usage(), usage);
        assert_eq!(pool.take_cached(&chain(b"other", &[1])[0]), None);
    }

    #[test]
    fn holdings_after_some_were_given_back() {
        let mut pool = BlockPool::new(4);
        let keys = chain(b"s", &[1, 2, 3]);
        let blocks = [1, 2].map(|_| pool.take_new(None).unwrap());
        pool.publish(blocks[0], keys[0]);
        pool.publish(blocks[1], keys[1]);
        pool.take_cached(&keys[0]).unwrap();
        let mut holdings = pool.holdings();
        let figures = |h: &Holdings<'_>| (h.available(), h.held_by_others(&keys));
        assert_eq!(figures(&holdings), (2, 2));
        // A block that is not there ends the part that can be taken over.
        assert_eq!(holdings.held_by_others(&[keys[2], keys[0]]), 0);
        holdings.give_back(&blocks);
        assert_eq!(figures(&holdings), (3, 1));
        holdings.give_back(&blocks[..1]);
        assert_eq!(figures(&holdings), (4, 0));
        assert_eq!(figures(&pool.holdings()), (2, 2), "nothing has happened");
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut pool = BlockPool::new(2);
        let keys = chain(b"s", &[1, 2]);
        let blocks = [pool.take_new(None).unwrap(), pool.take_new(None).unwrap()];
        assert_eq!(pool.take_new(None), None);
        for (block, key) in blocks.iter().zip(&keys) {
            pool.publish(*block, *key);
        }
        pool.release(blocks[1]);
        pool.release(blocks[0]);
        assert_eq!(pool.take_new(None), Some(blocks[1]));
        assert!(pool.by_key.contains_key(&keys[0]));
        assert_eq!(pool.take_cached(&keys[1]), None);
    }

    #[test]
    fn texts_that_grow_together_have_neighbouring_blocks() {
        let mut pool = BlockPool::new(3 * KV_RUN_BLOCKS - 1);
        let mut texts: [Vec<u32>; 2] = [vec![], vec![]];
        for _ in 0..KV_RUN_BLOCKS {
            for text in &mut texts {
                let last = text.last().map(|id| BlockId(*id));
                text.push(pool.take_new(last).unwrap().0);
            }
        }
        let run = |first: u32| (first..first + KV_RUN_BLOCKS as u32).collect::<Vec<_>>();
        assert_eq!(texts, [run(0), run(16)]);
        // Where both want to go on is one run, and then what there is.
        let first = pool.take_new(Some(BlockId(15))).unwrap();
        let second = pool.take_new(Some(BlockId(31))).unwrap();
        assert_eq!((first, second), (BlockId(32), BlockId(33)));
        assert_eq!(pool.available(), KV_RUN_BLOCKS - 3);
        while pool.take_new(Some(second)).is_some() {}
        assert_eq!(pool.available(), 0);
    }

    #[test]
    fn random_use_loses_nothing() {
        let mut random = StdRng::seed_from_u64(5);
        let mut pool = BlockPool::new(20);
        let mut held: Vec<BlockId> = Vec::new();
        for _ in 0..20_000 {
            let key = chain(b"s", &[random.random_range(0..30)])[0];
            match random.random_range(0..4) {
                0 => held.extend(pool.take_cached(&key)),
                1 => held.extend(pool.take_new(held.last().copied())),
                2 if !held.is_empty() => {
                    pool.publish(held[random.random_range(0..held.len())], key);
                }
                _ if !held.is_empty() => {
                    pool.release(held.swap_remove(random.random_range(0..held.len())));
                }
                _ => {}
            }
            let distinct: std::collections::HashSet<_> = held.iter().collect();
            assert_eq!(pool.usage().used, distinct.len());
            assert_eq!(pool.available(), 20 - distinct.len());
            for (key, &id) in &pool.by_key {
                assert_eq!(pool.block(id).key, Some(*key));
            }
        }
        held.into_iter().for_each(|id| pool.release(id));
        assert_eq!(pool.usage().used, 0);
    }
}
