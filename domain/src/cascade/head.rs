//! A small classifier over embeddings: multinomial logistic regression.

use super::shuffled;

/// Steps of gradient descent with Nesterov's momentum; the loss is convex and the features have length 1.
const STEPS: usize = 200;
const RATE: f32 = 1.0;
const MOMENTUM: f32 = 0.9;
/// Strengths of the penalty that are tried; the one that explains held-out rows best is taken.
const PENALTIES: [f32; 4] = [1e-2, 1e-3, 1e-4, 1e-5];
/// Of so many rows one is held out.
const FOLDS: usize = 5;

/// Probabilities of the classes of a row.
pub struct Head {
    classes: usize,
    /// For each class its weights and its bias.
    weights: Vec<f32>,
}

impl Head {
    /// Learns from rows of one length with their classes, numbers below `classes`. `tick` is called often, so that the
    /// caller can end it by unwinding.
    pub fn train(rows: &[&[f32]], labels: &[usize], classes: usize, tick: &dyn Fn()) -> Self {
        let order = shuffled(rows.len(), 1);
        let part = |is_held: bool| -> (Vec<&[f32]>, Vec<usize>) {
            let places = order.iter().enumerate();
            let places = places.filter(|(at, _)| at.is_multiple_of(FOLDS) == is_held);
            places
                .map(|(_, &place)| (rows[place], labels[place]))
                .unzip()
        };
        let (kept, kept_labels) = part(false);
        let (held, held_labels) = part(true);
        let loss = |penalty: f32| {
            Self::fit(&kept, &kept_labels, classes, penalty, tick).loss(&held, &held_labels)
        };
        let best = PENALTIES
            .into_iter()
            .map(|penalty| (penalty, loss(penalty)))
            .min_by(|(_, left), (_, right)| left.total_cmp(right));
        let penalty = best.map_or(PENALTIES[0], |(penalty, _)| penalty);
        Self::fit(rows, labels, classes, penalty, tick)
    }

    fn fit(
        rows: &[&[f32]],
        labels: &[usize],
        classes: usize,
        penalty: f32,
        tick: &dyn Fn(),
    ) -> Self {
        let width = rows.first().map_or(0, |row| row.len()) + 1;
        let mut head = Self {
            classes,
            weights: vec![0.0; classes * width],
        };
        let mut velocity = vec![0.0_f32; classes * width];
        for _ in 0..STEPS {
            tick();
            // The gradient where momentum alone would lead.
            for (weight, speed) in head.weights.iter_mut().zip(&velocity) {
                *weight += MOMENTUM * speed;
            }
            let gradient = head.gradient(rows, labels, penalty);
            for ((weight, speed), slope) in head.weights.iter_mut().zip(&mut velocity).zip(gradient)
            {
                *weight -= RATE * slope;
                *speed = MOMENTUM * *speed - RATE * slope;
            }
        }
        head
    }

    fn gradient(&self, rows: &[&[f32]], labels: &[usize], penalty: f32) -> Vec<f32> {
        let width = self.weights.len() / self.classes.max(1);
        let mut gradient: Vec<f32> = self.weights.iter().map(|weight| penalty * weight).collect();
        let share = 1.0 / rows.len().max(1) as f32;
        for (row, &label) in rows.iter().zip(labels) {
            for (class, probability) in self.probabilities(row).into_iter().enumerate() {
                let error = share * (probability - f32::from(u8::from(class == label)));
                let slopes = &mut gradient[class * width..(class + 1) * width];
                for (slope, value) in slopes.iter_mut().zip(row.iter().chain(&[1.0])) {
                    *slope += error * value;
                }
            }
        }
        gradient
    }

    /// Mean of the negative logarithm of the true class's probability.
    fn loss(&self, rows: &[&[f32]], labels: &[usize]) -> f32 {
        let losses = rows.iter().zip(labels);
        let losses = losses.map(|(row, &label)| -self.probabilities(row)[label].max(1e-9).ln());
        losses.sum::<f32>() / rows.len().max(1) as f32
    }

    /// One for each class; together 1.
    pub fn probabilities(&self, row: &[f32]) -> Vec<f32> {
        let width = self.weights.len() / self.classes.max(1);
        let scores = self.weights.chunks_exact(width).map(|weights| {
            let (bias, weights) = weights.split_last().unwrap_or((&0.0, &[]));
            dot(weights, row) + bias
        });
        let scores: Vec<f32> = scores.collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }
}

/// In eight sums, which the processor adds side by side.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (left, right) in left.iter().zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
            *sum += a * b;
        }
    }
    let rest = left_rest.iter().zip(right_rest).map(|(a, b)| a * b);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
