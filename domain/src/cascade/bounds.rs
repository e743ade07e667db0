//! How many rows of a finite population have a property, by a sample drawn without replacement.

/// The most rows of `population` that may have a property, when `found` of `drawn` have it: more would show no more than
/// `found` with a probability below `risk`. Exact (hypergeometric).
pub(super) fn most(population: usize, drawn: usize, found: usize, risk: f64) -> usize {
    let logs = LogFactorials::new(population);
    let is_possible =
        |having: usize| logs.probability_of_at_most(found, population, having, drawn) >= risk;
    // The rows that were drawn without it do not have it.
    let (mut low, mut high) = (found, population - (drawn - found));
    while low < high {
        let middle = (low + high).div_ceil(2);
        match is_possible(middle) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    low
}

/// The fewest, as [`most`].
pub(super) fn fewest(population: usize, drawn: usize, found: usize, risk: f64) -> usize {
    population - most(population, drawn, drawn - found, risk)
}

struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn new(most: usize) -> Self {
        let mut sum = 0.0;
        let logs = (0..=most).map(|number| {
            sum += (number.max(1) as f64).ln();
            sum
        });
        Self(logs.collect())
    }

    fn choose(&self, from: usize, count: usize) -> f64 {
        self.0[from] - self.0[count] - self.0[from - count]
    }

    /// Probability that at most `found` of `drawn` have what `having` of `population` have.
    fn probability_of_at_most(
        &self,
        found: usize,
        population: usize,
        having: usize,
        drawn: usize,
    ) -> f64 {
        let lacking = population - having;
        let least = drawn.saturating_sub(lacking);
        let all = self.choose(population, drawn);
        (least..=found.min(having).min(drawn))
            .map(|count| {
                (self.choose(having, count) + self.choose(lacking, drawn - count) - all).exp()
            })
            .sum()
    }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
