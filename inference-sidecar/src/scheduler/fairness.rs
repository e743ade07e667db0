//! Shares of callers by tokens served: the virtual token counter of Sheng et al. 2024
//! ("Fairness in Serving Large Language Models", arXiv 2401.00588).

use std::collections::HashMap;

/// What a token that is made costs, in tokens that are read.
const MADE_TOKEN_COST: u64 = 2;
/// Callers that are remembered while they ask for nothing.
const IDLE_CALLERS_MAX: usize = 1024;

/// How much each caller was served.
#[derive(Default)]
pub struct ServedTokens {
    callers: HashMap<String, Account>,
    /// What the caller had that left last, when nobody was present any more.
    floor: u64,
}

#[derive(Default)]
struct Account {
    served: u64,
    /// Sequences that wait or run.
    sequences: usize,
}

impl ServedTokens {
    /// A sequence of `caller` has arrived. A caller that comes back after a pause does not bring
    /// unused shares along: it starts where the least served of the present ones stands.
    pub fn arrive(&mut self, caller: &str) {
        let present = self
            .callers
            .values()
            .filter(|account| account.sequences > 0);
        let least = present.map(|account| account.served).min();
        let least = least.unwrap_or(self.floor);
        self.forget_idle();
        let account = self.callers.entry(caller.to_owned()).or_default();
        if account.sequences == 0 {
            account.served = account.served.max(least);
        }
        account.sequences += 1;
    }

    /// A sequence of `caller` has ended.
    pub fn leave(&mut self, caller: &str) {
        if let Some(account) = self.callers.get_mut(caller) {
            account.sequences = account.sequences.saturating_sub(1);
            let served = account.served;
            if self.callers.values().all(|account| account.sequences == 0) {
                self.floor = self.floor.max(served);
            }
        }
    }

    /// Tokens were read or made for `caller`.
    pub fn serve(&mut self, caller: &str, read: usize, made: usize) {
        if let Some(account) = self.callers.get_mut(caller) {
            account.served += read as u64 + MADE_TOKEN_COST * made as u64;
        }
    }

    /// What `caller` has had so far: who has had least is next.
    pub fn served(&self, caller: &str) -> u64 {
        self.callers.get(caller).map_or(0, |account| account.served)
    }

    fn forget_idle(&mut self) {
        if self.callers.len() > IDLE_CALLERS_MAX {
            self.callers.retain(|_, account| account.sequences > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: who was served less comes first, and a pause earns nothing.

    use super::*;

    #[test]
    fn the_least_served_is_next() {
        let mut tokens = ServedTokens::default();
        tokens.arrive("a");
        tokens.serve("a", 100, 10);
        assert_eq!(tokens.served("a"), 120);
        tokens.arrive("b");
        assert_eq!(tokens.served("b"), 120);
        tokens.serve("a", 1, 0);
        assert!(tokens.served("b") < tokens.served("a"));
        tokens.leave("b");
        tokens.serve("a", 1000, 0);
        tokens.arrive("b");
        assert_eq!(tokens.served("b"), tokens.served("a"));
        // Nor does a pause of everybody let a newcomer start from nothing.
        tokens.leave("a");
        tokens.leave("b");
        tokens.arrive("c");
        assert_eq!(tokens.served("c"), tokens.served("a"));
    }

    #[test]
    fn idle_callers_are_forgotten() {
        let mut tokens = ServedTokens::default();
        for number in 0..3 * IDLE_CALLERS_MAX {
            let caller = number.to_string();
            tokens.arrive(&caller);
            tokens.leave(&caller);
        }
        assert!(tokens.callers.len() <= IDLE_CALLERS_MAX + 1);
    }
}
