//! The choice of the next token from the model's scores.

use proto::model::{Sampling, TokenChoice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::error::Error;

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
    pub fn new(sampling: Sampling) -> Self {
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
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, Error> {
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

#[cfg(test)]
mod tests {
    //! Goal: choices follow the distribution, stay in the nucleus, and are reproducible.

    use super::*;

    fn counts(temperature: f32, top_p: f32, seed: u64) -> [u32; 4] {
        let mut sampler = Sampler::new(Sampling::nucleus(temperature, top_p, seed));
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln(), f32::NEG_INFINITY];
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[sampler.choose(&logits).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(
            Sampler::new(Sampling::GREEDY)
                .choose(&[0.0, 2.0, 2.0, 1.0])
                .unwrap(),
            1
        );
    }

    #[test]
    fn shares_follow_the_probabilities() {
        let [a, b, c, d] = counts(1.0, 1.0, 7);
        assert!(
            (4_800..5_200).contains(&a) && (2_800..3_200).contains(&b),
            "{a} {b}"
        );
        assert!((1_800..2_200).contains(&c) && d == 0, "{c} {d}");
    }

    #[test]
    fn a_nucleus_leaves_out_the_tail() {
        let [_, b, c, _] = counts(1.0, 0.6, 7);
        assert!(b > 0 && c == 0);
        assert_eq!(counts(1.0, 0.4, 7), [10_000, 0, 0, 0]);
    }

    #[test]
    fn a_low_temperature_sharpens() {
        assert!(counts(0.1, 1.0, 7)[0] > 9_900);
    }

    #[test]
    fn seeds_reproduce() {
        assert_eq!(counts(1.0, 0.9, 7), counts(1.0, 0.9, 7));
        assert_ne!(counts(1.0, 0.9, 7), counts(1.0, 0.9, 8));
    }

    #[test]
    fn broken_scores_are_an_error() {
        for logits in [
            vec![],
            vec![f32::NAN, 1.0],
            vec![f32::NEG_INFINITY],
            vec![f32::INFINITY],
        ] {
            assert!(Sampler::new(Sampling::GREEDY).choose(&logits).is_err());
        }
    }
}
