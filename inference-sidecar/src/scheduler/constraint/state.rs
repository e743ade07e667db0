//! One text on its way through a constraint.

use llguidance::Matcher;
use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;

use super::refusal;
use crate::error::Error;

/// Which tokens may come next in one sequence.
pub struct ConstraintState {
    matcher: Matcher,
    /// What may come next, when that has been computed already.
    allowed: Option<SimpleVob>,
    /// Scores per step.
    rows: usize,
    /// Number of end tokens.
    ends: usize,
}

impl ConstraintState {
    /// Computes the first mask as well, so that what no text can obey is refused before it costs a step.
    pub(super) fn new(matcher: Matcher, rows: usize, ends: usize) -> Result<Self, Error> {
        let mut state = Self {
            matcher,
            allowed: None,
            rows,
            ends,
        };
        // Consuming nothing lets the matcher notice that nothing may follow.
        let begun = state.matcher.consume_tokens(&[]);
        begun.map_err(|error| refusal::of(&error.to_string()))?;
        state.allowed = Some(state.compute()?);
        Ok(state)
    }

    /// Sets the scores of tokens that may not come next to minus infinity.
    /// The end tokens are allowed exactly when the text may end.
    /// Fails with `Error::ConstraintRefused` when the step exceeds the limits of work.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        if logits.len() != self.rows {
            let reason = "the model has another number of tokens";
            return Err(Error::ConstraintFailed { reason });
        }
        let allowed = match self.allowed.take() {
            Some(allowed) => allowed,
            None => self.compute()?,
        };
        for (scores, bits) in logits
            .chunks_mut(u32::BITS as usize)
            .zip(allowed.as_slice())
        {
            match *bits {
                u32::MAX => {}
                0 => scores.fill(f32::NEG_INFINITY),
                bits => {
                    for (position, score) in scores.iter_mut().enumerate() {
                        if bits & (1 << position) == 0 {
                            *score = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
        self.allowed = Some(allowed);
        Ok(())
    }

    /// Advances by a chosen token that is no end token.
    /// Fails with `Error::ConstraintFailed` for a token that `mask` does not allow.
    pub fn accept(&mut self, token: u32) -> Result<(), Error> {
        self.allowed = None;
        self.matcher
            .consume_token(token)
            .map_err(|error| refusal::of_step(&error.to_string()))
    }

    /// True when the text obeys the constraint as it stands.
    pub fn is_accepting(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    /// True when nothing can follow: the sequence ends without asking the model.
    pub fn is_complete(&mut self) -> bool {
        let reason = self.matcher.stop_reason();
        let is_stopped = reason != StopReason::NotStopped && reason.is_ok();
        // An empty text is not noticed by the matcher itself.
        let only_ends = |allowed: &SimpleVob| allowed.num_set() == self.ends;
        is_stopped || (self.allowed.as_ref().is_some_and(only_ends) && self.is_accepting())
    }

    fn compute(&mut self) -> Result<SimpleVob, Error> {
        let allowed = self.matcher.compute_mask_or_eos();
        allowed.map_err(|error| refusal::of_step(&error.to_string()))
    }
}
