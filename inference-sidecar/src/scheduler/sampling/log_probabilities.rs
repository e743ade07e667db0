//! How likely the model itself finds the tokens, whatever is chosen in the end.

use super::distribution::likelier_first;

/// The scores of one step as they came from the model.
pub(super) struct LogProbabilities {
    logits: Vec<f32>,
    /// Logarithm of the sum of all exponentials.
    log_total: f64,
}

impl LogProbabilities {
    /// `highest` is the highest of `logits`, a finite number.
    pub(super) fn new(logits: &[f32], highest: f32) -> Self {
        let total: f64 = logits
            .iter()
            .map(|logit| f64::from((logit - highest).exp()))
            .sum();
        Self {
            logits: logits.to_vec(),
            log_total: f64::from(highest) + total.ln(),
        }
    }

    /// Natural logarithm of the probability of `token`.
    pub(super) fn of(&self, token: u32) -> f32 {
        (f64::from(self.logits[token as usize]) - self.log_total) as f32
    }

    /// The `count` likeliest tokens, likeliest first, equals by token; impossible ones are left out.
    pub(super) fn likeliest(&self, count: usize) -> Vec<(u32, f32)> {
        let mut ranked: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
        for (token, &logit) in (0u32..).zip(&self.logits) {
            // Most tokens are less likely than the last one so far.
            if ranked.len() == count && ranked.last().is_none_or(|last| logit <= last.1)
                || !logit.is_finite()
            {
                continue;
            }
            let candidate = (token, logit);
            let place = ranked.partition_point(|other| likelier_first(other, &candidate).is_lt());
            ranked.insert(place, candidate);
            ranked.truncate(count);
        }
        for (token, value) in &mut ranked {
            *value = self.of(*token);
        }
        ranked
    }
}
