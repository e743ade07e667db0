//! Fewer repetitions: the penalty of Keskar et al. 2019, arXiv 1909.05858, section 4.1.

/// Makes tokens that occurred less likely; keeps its memory between steps.
pub(super) struct RepetitionPenalty {
    /// Above 1.
    factor: f32,
    /// One bit per token, all zero between steps.
    seen: Vec<u64>,
}

impl RepetitionPenalty {
    /// None for a factor that changes nothing.
    pub(super) fn new(factor: f32) -> Option<Self> {
        (factor != 1.0).then_some(Self {
            factor,
            seen: Vec::new(),
        })
    }

    /// Changes the score of each token of `history` once, however often it occurs.
    pub(super) fn apply(&mut self, logits: &mut [f32], history: &[u32]) {
        self.seen.resize(logits.len().div_ceil(64), 0);
        for &token in history {
            let token = token as usize;
            let Some(logit) = logits.get_mut(token) else {
                continue;
            };
            let (word, bit) = (&mut self.seen[token / 64], 1 << (token % 64));
            if *word & bit == 0 {
                *word |= bit;
                *logit = match *logit > 0.0 {
                    true => *logit / self.factor,
                    false => *logit * self.factor,
                };
            }
        }
        self.seen.fill(0);
    }
}
