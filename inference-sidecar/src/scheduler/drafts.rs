//! Drafts: tokens that probably come next, because they followed the same tokens before.
//!
//! Prompt lookup decoding (Saxena 2023; vLLM's n-gram speculation): a quotation or a JSON key is often
//! in the prompt already. The model reads drafts together with the last token, which costs little more
//! than that token alone, and a draft counts only where the model chooses it itself: the text is the
//! same as without.

/// Lengths of the end of a text that is looked for, the longest first.
const ENDS: [usize; 2] = [3, 2];
/// Steps without drafts after the first that were all wrong, and the most after many such.
const PAUSES: (usize, usize) = (2, 32);

/// Finds drafts for one text; fewer where they prove wrong.
pub(super) struct Drafter {
    /// Drafts of a step.
    length: usize,
    /// Steps until there are drafts again.
    pause: usize,
    next_pause: usize,
}

impl Drafter {
    pub(super) fn new() -> Self {
        Self {
            length: 3,
            pause: 0,
            next_pause: PAUSES.0,
        }
    }

    /// At most `limit` tokens that could follow `tokens`.
    pub(super) fn propose<'a>(&mut self, tokens: &'a [u32], limit: usize) -> &'a [u32] {
        if limit == 0 {
            return &[];
        }
        if self.pause > 0 {
            self.pause -= 1;
            return &[];
        }
        let limit = limit.min(self.length);
        let found = ENDS.iter().find_map(|&end| continuation(tokens, end));
        found.map_or(&[], |found| &found[..limit.min(found.len())])
    }

    /// The model has chosen the first `accepted` of `drafted` drafts.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize) {
        if accepted == drafted {
            self.length = (drafted * 2).max(self.length);
        } else {
            self.length = (accepted + 1).max(2);
        }
        if accepted > 0 {
            self.next_pause = PAUSES.0;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(PAUSES.1);
        }
    }
}

/// What followed the last `end` tokens where they stood for the last time before.
fn continuation(tokens: &[u32], end: usize) -> Option<&[u32]> {
    let last = &tokens[tokens.len().checked_sub(end)?..];
    // The earlier place may overlap the end, as in a text that repeats itself.
    let earlier = &tokens[..tokens.len() - 1];
    let start = earlier.windows(end).rposition(|window| window == last)?;
    Some(&tokens[start + end..])
}

#[cfg(test)]
mod tests {
    //! Goal: drafts are what followed the same end last, and wrong ones become rare.

    use super::*;

    #[test]
    fn the_latest_continuation_of_the_longest_end_is_drafted() {
        let mut drafter = Drafter::new();
        let tokens = [1, 2, 3, 4, 5, 9, 2, 3, 7, 7, 1, 2, 3];
        assert_eq!(drafter.propose(&tokens, 2), [4, 5]);
        let tokens = [1, 2, 3, 4, 5, 9, 2, 3, 7, 7, 8, 2, 3];
        assert_eq!(drafter.propose(&tokens, 2), [7, 7]);
        assert_eq!(drafter.propose(&[6, 6, 6, 6], 8), [6]);
        for nothing in [&[][..], &[1], &[1, 1], &[1, 2, 3, 4]] {
            assert!(drafter.propose(nothing, 8).is_empty(), "{nothing:?}");
        }
        assert!(drafter.propose(&[1, 2, 3, 1, 2], 0).is_empty());
    }

    #[test]
    fn wrong_drafts_become_rare_and_right_ones_long() {
        let tokens = [5; 100];
        let mut drafter = Drafter::new();
        let mut steps_with_drafts = 0;
        for _ in 0..200 {
            let drafted = drafter.propose(&tokens, 8).len();
            if drafted > 0 {
                drafter.learn(drafted, 0);
                steps_with_drafts += 1;
            }
        }
        assert!(steps_with_drafts <= 12, "{steps_with_drafts}");
        let mut drafter = Drafter::new();
        let repeating: Vec<u32> = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].repeat(3);
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let drafted = drafter.propose(&repeating, 8).len();
            drafter.learn(drafted, drafted);
            lengths.push(drafted);
        }
        assert_eq!(lengths, [3, 6, 8]);
    }
}
