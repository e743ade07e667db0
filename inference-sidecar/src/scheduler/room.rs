//! Whether a waiting sequence may run now, and who has to be put back for it.

use proto::model::Priority;

use crate::models::BlockId;
use crate::scheduler::kv_blocks::{BlockPool, Holdings, PrefixKey};
use crate::scheduler::sequence::Rank;

/// The blocks of a sequence, and those it still needs before its next token can be chosen.
pub(super) struct Claim<'a> {
    pub rank: Rank,
    pub held: &'a [BlockId],
    /// Blocks needed beside those it holds.
    pub wanted: usize,
    /// The names of the first of them, as far as they may be shared.
    pub prefix: &'a [PrefixKey],
}

/// What runs, and the blocks it runs in.
pub(super) struct Room<'a> {
    pub running: Vec<Claim<'a>>,
    pub pool: &'a BlockPool,
    pub sequences_max: usize,
}

impl Room<'_> {
    /// The sequences to put back so that `newcomer` can run: none of them while there is room, for an
    /// interactive one the last of the background. Without a result it waits: nobody is put back in vain.
    pub(super) fn make(mut self, newcomer: &Claim<'_>) -> Option<Vec<Rank>> {
        let mut holdings = self.pool.holdings();
        let mut victims = Vec::new();
        while !self.fits(newcomer, &holdings) {
            if newcomer.rank.0 != Priority::Interactive {
                return None;
            }
            let victim = self.running.swap_remove(self.last_of_background()?);
            holdings.give_back(victim.held);
            victims.push(victim.rank);
        }
        Some(victims)
    }

    /// Room for what it has to read, beside what the running sequences have still to read and one
    /// more block for each of them, so that a newcomer does not push out what is under way.
    fn fits(&self, newcomer: &Claim<'_>, holdings: &Holdings<'_>) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let promised: usize = self.running.iter().map(|c| c.cost(holdings) + 1).sum();
        self.running.len() < self.sequences_max
            && newcomer.cost(holdings) + promised <= holdings.available()
    }

    fn last_of_background(&self) -> Option<usize> {
        let is_background = |&index: &usize| self.running[index].rank.0 == Priority::Background;
        let background = (0..self.running.len()).filter(is_background);
        background.max_by_key(|&index| self.running[index].rank)
    }
}

impl Claim<'_> {
    /// Blocks that it will take from those that can be taken: what others hold costs nothing.
    fn cost(&self, holdings: &Holdings<'_>) -> usize {
        self.wanted - holdings.held_by_others(self.prefix)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a newcomer is charged for what it newly takes, and nobody is put back in vain.

    use super::*;
    use crate::models::KV_BLOCK_TOKENS;

    const BACKGROUND: Priority = Priority::Background;
    const INTERACTIVE: Priority = Priority::Interactive;

    fn keys(count: u32) -> Vec<PrefixKey> {
        let mut key = PrefixKey::root("model", None, b"salt");
        let next = |number| {
            key = key.extend(&[number; KV_BLOCK_TOKENS]);
            key
        };
        (0..count).map(next).collect()
    }

    fn take(pool: &mut BlockPool, count: usize) -> Vec<BlockId> {
        (0..count).map(|_| pool.take_new(None).unwrap()).collect()
    }

    fn publish(pool: &mut BlockPool, blocks: &[BlockId], keys: &[PrefixKey]) {
        for (block, key) in blocks.iter().zip(keys) {
            pool.publish(*block, *key);
        }
    }

    fn running(rank: Rank, held: &[BlockId]) -> Claim<'_> {
        Claim {
            rank,
            held,
            wanted: 0,
            prefix: &[],
        }
    }

    fn newcomer(priority: Priority, wanted: usize, prefix: &[PrefixKey]) -> Claim<'_> {
        Claim {
            rank: (priority, 99),
            held: &[],
            wanted,
            prefix,
        }
    }

    fn make(pool: &BlockPool, running: Vec<Claim<'_>>, newcomer: &Claim<'_>) -> Option<Vec<Rank>> {
        let room = Room {
            running,
            pool,
            sequences_max: 8,
        };
        room.make(newcomer)
    }

    #[test]
    fn a_prefix_that_runs_already_is_free_of_charge() {
        let mut pool = BlockPool::new(8);
        let keys = keys(5);
        let held = take(&mut pool, 5);
        publish(&mut pool, &held, &keys);
        // Three are left, one of them is promised.
        let others = || vec![running((INTERACTIVE, 0), &held)];
        let sharing = newcomer(BACKGROUND, 7, &keys);
        assert_eq!(make(&pool, others(), &sharing), Some(vec![]));
        assert_eq!(make(&pool, others(), &newcomer(BACKGROUND, 8, &keys)), None);
        assert_eq!(make(&pool, others(), &newcomer(BACKGROUND, 3, &[])), None);
    }

    #[test]
    fn a_cached_prefix_that_nobody_holds_is_charged() {
        let mut pool = BlockPool::new(8);
        let keys = keys(5);
        let cached = take(&mut pool, 5);
        publish(&mut pool, &cached, &keys);
        cached.iter().for_each(|&block| pool.release(block));
        let held = take(&mut pool, 2);
        let others = || vec![running((INTERACTIVE, 0), &held)];
        // Six can be taken, the five cached ones among them; one is promised.
        assert_eq!(
            make(&pool, others(), &newcomer(BACKGROUND, 5, &keys)),
            Some(vec![])
        );
        assert_eq!(make(&pool, others(), &newcomer(BACKGROUND, 6, &keys)), None);
    }

    #[test]
    fn background_is_put_back_as_far_as_needed_and_not_in_vain() {
        let mut pool = BlockPool::new(12);
        let (first, second, person) = (take(&mut pool, 4), take(&mut pool, 4), take(&mut pool, 4));
        let all = || {
            vec![
                running((BACKGROUND, 1), &first),
                running((BACKGROUND, 2), &second),
                running((INTERACTIVE, 3), &person),
            ]
        };
        let ask = |priority, wanted| make(&pool, all(), &newcomer(priority, wanted, &[]));
        let (earlier, later) = ((BACKGROUND, 1), (BACKGROUND, 2));
        assert_eq!(ask(INTERACTIVE, 2), Some(vec![later]));
        assert_eq!(ask(INTERACTIVE, 7), Some(vec![later, earlier]));
        assert_eq!(ask(INTERACTIVE, 8), None);
        assert_eq!(ask(BACKGROUND, 2), None);
    }

    #[test]
    fn a_prefix_of_the_victim_is_charged_again() {
        let mut pool = BlockPool::new(8);
        let keys = keys(4);
        let (shared, person) = (take(&mut pool, 4), take(&mut pool, 2));
        publish(&mut pool, &shared, &keys);
        let all = || {
            vec![
                running((BACKGROUND, 1), &shared),
                running((INTERACTIVE, 2), &person),
            ]
        };
        // Six can be taken without the victim, one of them is promised.
        let ask = |wanted| make(&pool, all(), &newcomer(INTERACTIVE, wanted, &keys));
        assert_eq!(ask(5), Some(vec![(BACKGROUND, 1)]));
        assert_eq!(ask(6), None);
    }

    #[test]
    fn the_number_of_sequences_is_bounded() {
        let pool = BlockPool::new(100);
        let ask = |priority| {
            let room = Room {
                running: vec![running((BACKGROUND, 1), &[])],
                pool: &pool,
                sequences_max: 1,
            };
            room.make(&newcomer(priority, 1, &[]))
        };
        assert_eq!(ask(BACKGROUND), None);
        assert_eq!(ask(INTERACTIVE), Some(vec![(BACKGROUND, 1)]));
    }
}
