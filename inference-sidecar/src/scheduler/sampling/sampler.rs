//! One sequence's way of choosing tokens.

use proto::model::{Sampling, TokenChoice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::distribution::Distribution;
use super::log_probabilities::LogProbabilities;
use super::repetition::RepetitionPenalty;
use crate::error::Error;
use crate::scheduler::ConstraintState;

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub token: u32,
    /// Natural logarithm of the token's probability under the model: before temperature, penalty and
    /// constraint. Not a number unless log-probabilities were asked for.
    pub logprob: f32,
    /// The model's likeliest tokens with theirs, likeliest first, equals by token.
    pub alternatives: Vec<(u32, f32)>,
}

/// Chooses the tokens of one sequence; the same seed, scores and history give the same choices within
/// one version of the server, whatever else runs.
pub struct Sampler {
    rule: Rule,
    penalty: Option<RepetitionPenalty>,
    /// Alternatives per token; 0: no log-probabilities.
    top_logprobs: usize,
}

enum Rule {
    Likeliest,
    Random {
        temperature: f32,
        top_p: f32,
        min_p: f32,
        /// Gives one number per choice, so that a sequence can be resumed anywhere.
        random: Box<StdRng>,
    },
}

impl Sampler {
    /// With `top_logprobs` 0 choices come without log-probabilities.
    pub fn new(sampling: Sampling, top_logprobs: u32) -> Self {
        let rule = match sampling.choice {
            TokenChoice::Likeliest => Rule::Likeliest,
            TokenChoice::Random {
                temperature,
                top_p,
                min_p,
                seed,
            } => Rule::Random {
                temperature,
                top_p,
                min_p,
                random: Box::new(StdRng::seed_from_u64(seed)),
            },
        };
        Self {
            rule,
            penalty: RepetitionPenalty::new(sampling.repetition_penalty),
            top_logprobs: top_logprobs as usize,
        }
    }

    /// The next token after `history`, which is prompt and text so far. Changes `logits` on the way.
    /// Fails with `Error::NotANumber` when `logits` hold no usable number, and with
    /// `Error::ConstraintFailed` when the model gives no chance to any token that may come next.
    pub fn choose(
        &mut self,
        logits: &mut [f32],
        history: &[u32],
        constraint: Option<&mut ConstraintState>,
    ) -> Result<Choice, Error> {
        let best = likeliest(logits)?.ok_or(Error::NotANumber)?;
        let model = (self.top_logprobs > 0).then(|| LogProbabilities::new(logits, logits[best]));
        if let Some(penalty) = &mut self.penalty {
            penalty.apply(logits, history);
        }
        let best = match constraint {
            None if self.penalty.is_none() => Some(best),
            None => likeliest(logits)?,
            Some(constraint) => {
                constraint.mask(logits)?;
                likeliest(logits)?
            }
        };
        let best = best.ok_or(Error::ConstraintFailed {
            reason: "the model gives no chance to the tokens that may come next",
        })?;
        let token = self.rule.choose(logits, best)?;
        Ok(Choice {
            token,
            logprob: model.as_ref().map_or(f32::NAN, |model| model.of(token)),
            alternatives: model.map_or_else(Vec::new, |model| model.likeliest(self.top_logprobs)),
        })
    }
}

impl Rule {
    /// `best` is the first index of the highest score, which is finite.
    fn choose(&mut self, logits: &[f32], best: usize) -> Result<u32, Error> {
        match self {
            Rule::Likeliest => Ok(best as u32),
            Rule::Random {
                temperature,
                top_p,
                min_p,
                random,
            } => {
                let point = random.random();
                let mut distribution = Distribution::new(logits, logits[best], *temperature);
                distribution.cut(*top_p, *min_p);
                distribution.draw(point).ok_or(Error::NotANumber)
            }
        }
    }
}

/// Index of the highest score, the first one of equals; none when all are minus infinity.
fn likeliest(logits: &[f32]) -> Result<Option<usize>, Error> {
    let mut best = None;
    let mut highest = f32::NEG_INFINITY;
    for (index, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(Error::NotANumber);
        }
        if logit > highest {
            (best, highest) = (Some(index), logit);
        }
    }
    Ok(best)
}
