//! Means with bootstrap intervals (Efron and Tibshirani, 1993), paired where two systems answered the same queries.

use tests::measure::Dice;

/// Samples that are drawn.
const SAMPLES: usize = 2000;

/// Mean, and where 95 % of the means of samples with replacement lie.
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

pub fn mean(values: &[f64]) -> Interval {
    interval(values.len(), |draws| {
        draws.iter().map(|at| values[*at]).sum::<f64>() / draws.len() as f64
    })
}

/// By how much the mean of `ours` is above that of `theirs`, as a part of theirs.
pub fn gain(ours: &[f64], theirs: &[f64]) -> Interval {
    interval(ours.len(), |draws| {
        let sum = |values: &[f64]| draws.iter().map(|at| values[*at]).sum::<f64>();
        sum(ours) / sum(theirs) - 1.0
    })
}

fn interval(count: usize, statistic: impl Fn(&[usize]) -> f64) -> Interval {
    let all: Vec<usize> = (0..count).collect();
    let mut dice = Dice::new(1);
    let mut draw = || ((dice.share() * count as f32) as usize).min(count - 1);
    let mut values: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let draws: Vec<usize> = (0..count).map(|_| draw()).collect();
            statistic(&draws)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    Interval {
        mean: statistic(&all),
        low: values[SAMPLES / 40],
        high: values[SAMPLES - 1 - SAMPLES / 40],
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:.3} ({:.3} to {:.3})",
            self.mean, self.low, self.high
        )
    }
}
