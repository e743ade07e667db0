//! The choice of the next token from the model's scores.

use proto::model::{Sampling, TokenChoice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::error::Error;

#[derive(Debug)]
pub struct Choice {
    pub token: u32,
    pub logprob: f32,
    pub alternatives: Vec<(u32, f32)>,
}

/// Chooses tokens; the same seed and scores give the same choices within one version of the server.
pub struct Sampler {
    kind: Kind,
}

enum Kind {
    Greedy,
    Nucleus {
        temperature: f32,
        top_p: f32,
        random: Box<StdRng>,
    },
}

impl Sampler {
    pub fn new(sampling: Sampling, _: u32) -> Self {
        let kind = match sampling.choice {
            TokenChoice::Likeliest => Kind::Greedy,
            TokenChoice::Random {
                temperature,
                top_p,
                seed,
                ..
            } => {
                let random = Box::new(StdRng::seed_from_u64(seed));
                Kind::Nucleus {
                    temperature,
                    top_p,
                    random,
                }
            }
        };
        Self { kind }
    }

    /// The next token; fails when `logits` holds no usable number.
    pub fn choose(
        &mut self,
        logits: &mut [f32],
        _: &[u32],
        _: Option<&mut super::ConstraintState>,
    ) -> Result<Choice, Error> {
        Ok(Choice {
            token: self.pick(logits)?,
            logprob: 0.0,
            alternatives: Vec::new(),
        })
    }
    fn pick(&mut self, logits: &[f32]) -> Result<u32, Error> {
        let best = likeliest(logits)?;
        match &mut self.kind {
            Kind::Greedy => Ok(best as u32),
            Kind::Nucleus {
                temperature,
                top_p,
                random,
            } => {
                let weights = weights(logits, logits[best], *temperature);
                Ok(draw(nucleus(weights, *top_p), random.random()))
            }
        }
    }
}

/// Index of the highest score, the first one of equals.
fn likeliest(logits: &[f32]) -> Result<usize, Error> {
    let mut best: Option<usize> = None;
    for (index, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(Error::NotANumber);
        }
        if best.is_none_or(|best| logit > logits[best]) {
            best = Some(index);
        }
    }
    best.filter(|&best| logits[best].is_finite())
        .ok_or(Error::NotANumber)
}

/// Token and weight of each score under `temperature`, the highest weight being 1.
fn weights(logits: &[f32], highest: f32, temperature: f32) -> Vec<(u32, f32)> {
    let scaled = logits
        .iter()
        .map(|logit| ((logit - highest) / temperature).exp());
    (0..).zip(scaled).collect()
}

/// The likeliest tokens that together have the share `top_p` of all weights.
fn nucleus(mut weights: Vec<(u32, f32)>, top_p: f32) -> Vec<(u32, f32)> {
    if top_p >= 1.0 {
        return weights;
    }
    let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
    // Tokens below this weight have less than 1 - top_p together, so they are never needed;
    // dropping them first keeps the sort short.
    let negligible = (1.0 - top_p) * total / weights.len() as f32;
    weights.retain(|&(_, weight)| weight >= negligible);
    weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut sum = 0.0;
    let needed = weights.iter().take_while(|(_, weight)| {
        let is_needed = sum < top_p * total;
        sum += weight;
        is_needed
    });
    let needed = needed.count().max(1);
    weights.truncate(needed);
    weights
}

/// The token at `point` in [0, 1) of the line on which each token is as long as its weight.
fn draw(weights: Vec<(u32, f32)>, point: f32) -> u32 {
    let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
    let mut rest = point * total;
    let mut last = 0;
    for (token, weight) in weights {
        // A token of weight zero is never drawn, not even by rounding at the end of the line.
        if weight > 0.0 {
            last = token;
            if rest < weight {
                return token;
            }
            rest -= weight;
        }
    }
    last
}
