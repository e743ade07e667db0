//! What the head may decide, so that what it gets wrong stays within the caller's target.

use thiserror::Error;

use super::bounds::{fewest, most};

/// What the caller wants of the result, relative to what the oracle would have said of every row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    precision: f64,
    recall: f64,
    /// The share of samples with which both are reached.
    confidence: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("precision_min, recall_min and confidence must be above 0 and below 1")]
pub struct TargetError;

impl Target {
    pub fn new(precision: f64, recall: f64, confidence: f64) -> Result<Self, TargetError> {
        let is_share = |value: f64| value > 0.0 && value < 1.0;
        match [precision, recall, confidence].into_iter().all(is_share) {
            true => Ok(Self {
                precision,
                recall,
                confidence,
            }),
            false => Err(TargetError),
        }
    }

    /// Whether a head that is expected to get so many rows wrong can decide nearly all of them: an estimate, which
    /// leaves room for the bound. `rows`: all, or those of the class that is looked for.
    pub fn is_near(&self, expected_errors: f32, rows: f32) -> bool {
        let allowed = (1.0 - self.precision.max(self.recall)) * f64::from(rows);
        f64::from(expected_errors) <= ERRORS_SHARE * allowed
    }
}

/// Of the errors that are allowed.
const ERRORS_SHARE: f64 = 0.4;

/// What the head says of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The likeliest class, or the likeliest but the one that is looked for.
    pub class: usize,
    /// Its probability, or that of the class that is looked for.
    pub score: f32,
}

/// A row of the calibration sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    pub decision: Decision,
    /// What the oracle says; None where it failed, so that the head cannot agree.
    pub class: Option<usize>,
}

/// Rows that the head gets wrong, besides those of the sample, which are right.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Errors {
    likely: f64,
    most: f64,
}

/// Which rows the head decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The class that is looked for; None: each has its class, and precision and recall are both the share of rows
    /// that have the oracle's (micro-averaged).
    wanted: Option<usize>,
    /// The head's class is taken where its score is above this.
    above: f32,
    /// With a wanted class: another one is taken where its score is below this.
    below: f32,
    false_hits: Errors,
    misses: Errors,
}

/// Precision and recall relative to the oracle: the likeliest values, and those that are reached with the confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    pub precision: f64,
    pub precision_bound: f64,
    pub recall: f64,
    pub recall_bound: f64,
}

impl Reached {
    /// Nothing was left to the head, and the oracle has no answer for `failed` of the rows.
    pub fn by_oracle(rows: usize, failed: usize) -> Self {
        let share = share((rows - failed) as f64, rows as f64);
        Self {
            precision: 1.0,
            precision_bound: 1.0,
            recall: share,
            recall_bound: share,
        }
    }
}

fn share(part: f64, all: f64) -> f64 {
    match all > 0.0 {
        true => (part / all).clamp(0.0, 1.0),
        false => 1.0,
    }
}

impl Plan {
    /// For rows that each have a class. The sample was drawn from `population` of all `rows`.
    pub fn for_classes(target: &Target, sample: &[Judged], population: usize, rows: usize) -> Self {
        let allowed = (1.0 - target.precision.max(target.recall)) * rows as f64;
        let mut wrong: Vec<f32> = sample
            .iter()
            .filter(|row| row.class != Some(row.decision.class))
            .map(|row| row.decision.score)
            .collect();
        wrong.sort_by(|left, right| right.total_cmp(left));
        let side = Side {
            population,
            drawn: sample.len(),
            risk: 1.0 - target.confidence,
            allowed,
        };
        let (above, false_hits) = side.widest(&wrong, f32::INFINITY, f32::NEG_INFINITY);
        Self {
            wanted: None,
            above,
            below: f32::NEG_INFINITY,
            false_hits,
            misses: false_hits,
        }
    }

    /// For one class that is looked for, of which `known` rows were found outside of `population`.
    pub fn for_class(
        wanted: usize,
        target: &Target,
        sample: &[Judged],
        population: usize,
        known: usize,
    ) -> Self {
        let is_wanted = |row: &&Judged| row.class == Some(wanted);
        // Three statements about the same sample hold together.
        let risk = (1.0 - target.confidence) / 3.0;
        let found = sample.iter().filter(is_wanted).count();
        let wanted_rows = (known + fewest(population, sample.len(), found, risk)) as f64;
        let side = |allowed: f64| Side {
            population,
            drawn: sample.len(),
            risk,
            allowed,
        };
        let scores = |rows: &dyn Fn(&&Judged) -> bool| -> Vec<f32> {
            let rows = sample.iter().filter(rows);
            rows.map(|row| row.decision.score).collect()
        };
        let mut hits = scores(&is_wanted);
        hits.sort_by(f32::total_cmp);
        let mut others = scores(&|row| !is_wanted(row));
        others.sort_by(|left, right| right.total_cmp(left));
        let allowed_misses = (1.0 - target.recall) * wanted_rows;
        let allowed_false_hits =
            (1.0 - target.precision) / target.precision * target.recall * wanted_rows;
        let (below, misses) = side(allowed_misses).widest(&hits, f32::NEG_INFINITY, f32::INFINITY);
        let (above, false_hits) =
            side(allowed_false_hits).widest(&others, f32::INFINITY, f32::NEG_INFINITY);
        Self {
            wanted: Some(wanted),
            above,
            below,
            false_hits,
            misses,
        }
    }

    /// The class of a row; None where the oracle is to be asked.
    pub fn class_of(&self, decision: &Decision) -> Option<usize> {
        let is_above = decision.score > self.above;
        match self.wanted {
            None => is_above.then_some(decision.class),
            // Where both hold, the likelier; either alone would be within its bound.
            Some(wanted) if is_above && (decision.score >= 0.5 || decision.score >= self.below) => {
                Some(wanted)
            }
            Some(_) => (decision.score < self.below).then_some(decision.class),
        }
    }

    /// What was reached in a result of `rows`, of which `hits` have the class that is looked for and `failed` nothing,
    /// because the oracle failed.
    pub fn reached(&self, rows: usize, hits: usize, failed: usize) -> Reached {
        let failed = failed as f64;
        if self.wanted.is_none() {
            let rows = rows as f64;
            let likely = share(rows - self.false_hits.likely - failed, rows);
            let bound = share(rows - self.false_hits.most - failed, rows);
            return Reached {
                precision: likely,
                precision_bound: bound,
                recall: likely,
                recall_bound: bound,
            };
        }
        let hits = hits as f64;
        let right = |errors: f64| (hits - errors).max(0.0);
        let recall = |right: f64, misses: f64| share(right, right + misses + failed);
        Reached {
            precision: share(right(self.false_hits.likely), hits),
            precision_bound: share(right(self.false_hits.most), hits),
            recall: recall(right(self.false_hits.likely), self.misses.likely),
            recall_bound: recall(right(self.false_hits.most), self.misses.most),
        }
    }
}

/// One kind of error, and how many of it are allowed.
struct Side {
    population: usize,
    drawn: usize,
    risk: f64,
    allowed: f64,
}

impl Side {
    /// The widest threshold whose errors are allowed, and those. `wrong`: scores of the sample's errors, those that a
    /// narrow threshold lets through first; `nothing` and `everything` are the thresholds that decide so much.
    fn widest(&self, wrong: &[f32], nothing: f32, everything: f32) -> (f32, Errors) {
        let errors = |count: usize| Errors {
            likely: (self.population - self.drawn) as f64 * count as f64 / self.drawn.max(1) as f64,
            most: (most(self.population, self.drawn, count, self.risk) - count) as f64,
        };
        let widest = (0..=wrong.len())
            .map(errors)
            .enumerate()
            .take_while(|(_, errors)| errors.most <= self.allowed)
            .last();
        match widest {
            None => (nothing, Errors::default()),
            Some((count, errors)) => (wrong.get(count).copied().unwrap_or(everything), errors),
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
