//! A small classifier over what texts say: multinomial logistic regression.

use super::features::{Features, WIDTH};
use super::shuffled;

/// Steps of gradient descent with Nesterov's momentum; the loss is convex, and the features are short.
const STEPS: usize = 100;
const RATE: f32 = 0.7;
const MOMENTUM: f32 = 0.9;
/// Strengths of the penalty that are tried; the one that explains held-out rows best is taken.
const PENALTIES: [f32; 4] = [1e-2, 3e-3, 1e-3, 1e-4];
/// Of so many rows one is held out, in turn.
const FOLDS: usize = 5;

/// What a head reads of a text: its features, and its embedding or nothing.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub features: &'a Features,
    pub vector: &'a [f32],
}

/// Rows with their classes, numbers below `classes`.
pub struct Lesson<'a> {
    pub rows: Vec<Row<'a>>,
    pub labels: Vec<usize>,
    pub classes: usize,
}

/// How strongly large weights are held back, and the loss on held-out rows with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    strength: f32,
    pub loss: f32,
}

impl Penalty {
    /// By cross-validation. `tick` is called often, so that the caller can end it by unwinding.
    pub fn choose(lesson: &Lesson<'_>, tick: &dyn Fn()) -> Self {
        let folds: Vec<(Lesson<'_>, Lesson<'_>)> =
            (0..FOLDS).map(|fold| lesson.split(fold)).collect();
        let tried = PENALTIES.map(|strength| {
            let penalty = Self {
                strength,
                loss: 0.0,
            };
            let losses = folds
                .iter()
                .map(|(kept, held)| Head::fit(kept, penalty, tick).loss(held));
            Self {
                loss: losses.sum::<f32>() / lesson.rows.len().max(1) as f32,
                ..penalty
            }
        });
        let best = tried
            .into_iter()
            .min_by(|left, right| left.loss.total_cmp(&right.loss));
        best.unwrap_or(tried[0])
    }
}

impl<'a> Lesson<'a> {
    /// Without the rows of a fold, and those rows.
    fn split(&self, fold: usize) -> (Self, Self) {
        let order = shuffled(self.rows.len(), 1);
        let part = |is_held: bool| {
            let places = order.iter().enumerate();
            let places = places.filter(|(at, _)| (at % FOLDS == fold) == is_held);
            let (rows, labels) = places
                .map(|(_, &place)| (self.rows[place], self.labels[place]))
                .unzip();
            Self {
                rows,
                labels,
                classes: self.classes,
            }
        };
        (part(false), part(true))
    }
}

/// Probabilities of the classes of a row.
pub struct Head {
    classes: usize,
    /// For each class those of the features, then those of the embedding.
    weights: Vec<f32>,
}

impl Head {
    /// Learns; `tick` as in [`Penalty::choose`].
    pub fn fit(lesson: &Lesson<'_>, penalty: Penalty, tick: &dyn Fn()) -> Self {
        let vector = lesson.rows.iter().map(|row| row.vector.len()).max();
        let width = WIDTH + vector.unwrap_or(0);
        let mut head = Self {
            classes: lesson.classes,
            weights: vec![0.0; lesson.classes * width],
        };
        let mut velocity = vec![0.0_f32; head.weights.len()];
        for _ in 0..STEPS {
            tick();
            // The gradient where momentum alone would lead.
            for (weight, speed) in head.weights.iter_mut().zip(&velocity) {
                *weight += MOMENTUM * speed;
            }
            let gradient = head.gradient(lesson, penalty.strength);
            for ((weight, speed), slope) in head.weights.iter_mut().zip(&mut velocity).zip(gradient)
            {
                *weight -= RATE * slope;
                *speed = MOMENTUM * *speed - RATE * slope;
            }
        }
        head
    }

    fn gradient(&self, lesson: &Lesson<'_>, penalty: f32) -> Vec<f32> {
        let width = self.width();
        let mut gradient: Vec<f32> = self.weights.iter().map(|weight| penalty * weight).collect();
        let share = 1.0 / lesson.rows.len().max(1) as f32;
        for (row, &label) in lesson.rows.iter().zip(&lesson.labels) {
            for (class, probability) in self.probabilities(*row).into_iter().enumerate() {
                let error = share * (probability - f32::from(u8::from(class == label)));
                let (features, vector) =
                    gradient[class * width..(class + 1) * width].split_at_mut(WIDTH);
                for &(place, value) in row.features.values() {
                    features[place as usize] += error * value;
                }
                for (slope, value) in vector.iter_mut().zip(row.vector) {
                    *slope += error * value;
                }
            }
        }
        gradient
    }

    /// Sum of the negative logarithms of the true classes' probabilities.
    fn loss(&self, lesson: &Lesson<'_>) -> f32 {
        let losses = lesson.rows.iter().zip(&lesson.labels);
        losses
            .map(|(row, &label)| -self.probabilities(*row)[label].max(1e-9).ln())
            .sum()
    }

    /// One for each class; together 1.
    pub fn probabilities(&self, row: Row<'_>) -> Vec<f32> {
        let scores = self.weights.chunks_exact(self.width()).map(|weights| {
            let (features, vector) = weights.split_at(WIDTH);
            let values = row.features.values().iter();
            let values = values.map(|&(place, value)| features[place as usize] * value);
            values.sum::<f32>() + dot(vector, row.vector)
        });
        let scores: Vec<f32> = scores.collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }

    fn width(&self) -> usize {
        self.weights.len() / self.classes.max(1)
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
