//! Prompts of a wanted length that begin alike.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Common words: one token each in most vocabularies.
const WORDS: [&str; 48] = [
    "the", "buyer", "asked", "about", "price", "and", "team", "plans", "to", "review", "contract",
    "next", "week", "with", "legal", "before", "they", "sign", "our", "product", "must", "support",
    "more", "users", "in", "every", "region", "because", "their", "market", "will", "grow", "this",
    "year", "we", "should", "send", "a", "new", "offer", "that", "has", "better", "terms", "for",
    "large", "orders", "now",
];

/// One prompt of a series.
pub(super) struct Prompt {
    pub words: u32,
    /// Share of the words that all prompts of the seed begin with.
    pub shared_percent: u32,
    pub seed: u64,
    pub index: u32,
}

impl Prompt {
    pub(super) fn text(&self) -> String {
        let shared = u64::from(self.words) * u64::from(self.shared_percent) / 100;
        let mut common = StdRng::seed_from_u64(self.seed);
        // Far from the seeds of other series.
        let own_seed = self.seed ^ (u64::from(self.index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut own = StdRng::seed_from_u64(own_seed);
        let words = (0..u64::from(self.words)).map(|position| {
            let random = if position < shared {
                &mut common
            } else {
                &mut own
            };
            WORDS[random.random_range(0..WORDS.len())]
        });
        words.collect::<Vec<_>>().join(" ")
    }
}
