//! The head of a cascade, which learns from what the model says.

use domain::cascade::{Features, Head, Lesson, Penalty, Row};
use pgrx::check_for_interrupts;

use super::oracle::{Classes, Oracle};
use crate::error::Error;

/// With fewer judged texts nothing is learned.
const TRAINING_MIN: usize = 50;
/// All texts are embedded where that lowers the loss on held-out ones to this share or less: it takes time as well.
const LOSS_MAX: f32 = 0.9;

pub struct Pupil {
    reading: Reading,
    penalty: Penalty,
    head: Head,
}

/// What is read of each text.
struct Reading {
    features: Vec<Features>,
    /// Embeddings; empty where words do.
    vectors: Vec<Vec<f32>>,
}

/// What the head expects of a text that nobody has judged.
pub struct Doubt {
    pub place: usize,
    pub probabilities: Vec<f32>,
}

impl Doubt {
    /// How likely the likeliest class is wrong.
    pub fn error(&self) -> f32 {
        1.0 - self.probabilities.iter().copied().fold(0.0, f32::max)
    }
}

impl Pupil {
    /// None where too few texts have a value.
    pub fn of(oracle: &Oracle<'_>, classes: &mut Classes) -> Result<Option<Self>, Error> {
        let judged = oracle.judged(classes);
        let places = &judged.0;
        if places.len() < TRAINING_MIN {
            return Ok(None);
        }
        let mut reading = Reading {
            features: oracle.features(),
            vectors: Vec::new(),
        };
        let by_words = reading.penalty(&judged, classes);
        if let Some(some) = oracle.vectors(places)? {
            reading.vectors.resize(reading.features.len(), Vec::new());
            for (&place, vector) in places.iter().zip(some) {
                reading.vectors[place] = vector;
            }
            let is_worth_it = reading.penalty(&judged, classes).loss <= LOSS_MAX * by_words.loss;
            reading.vectors = match is_worth_it {
                true => {
                    let all: Vec<usize> = (0..reading.features.len()).collect();
                    oracle.vectors(&all)?.unwrap_or_default()
                }
                false => Vec::new(),
            };
        }
        let penalty = reading.penalty(&judged, classes);
        Ok(Some(Self {
            head: reading.head(&judged, classes, penalty),
            reading,
            penalty,
        }))
    }

    /// Learns from all that was judged so far.
    pub fn learn(&mut self, oracle: &Oracle<'_>, classes: &mut Classes) {
        let judged = oracle.judged(classes);
        self.head = self.reading.head(&judged, classes, self.penalty);
    }

    /// [`Self::learn`], for the last time: how strictly is chosen anew.
    pub fn finish(&mut self, oracle: &Oracle<'_>, classes: &mut Classes) {
        self.penalty = self.reading.penalty(&oracle.judged(classes), classes);
        self.learn(oracle, classes);
    }

    pub fn doubts(&self, oracle: &Oracle<'_>) -> Vec<Doubt> {
        let doubt = |place| Doubt {
            place,
            probabilities: self.probabilities(place),
        };
        oracle.unasked().map(doubt).collect()
    }

    pub fn probabilities(&self, place: usize) -> Vec<f32> {
        check_for_interrupts!();
        self.head.probabilities(self.reading.row(place))
    }
}

impl Reading {
    fn row(&self, place: usize) -> Row<'_> {
        Row {
            features: &self.features[place],
            vector: self.vectors.get(place).map_or(&[], Vec::as_slice),
        }
    }

    fn lesson(&self, (places, labels): &(Vec<usize>, Vec<usize>), classes: &Classes) -> Lesson<'_> {
        Lesson {
            rows: places.iter().map(|&place| self.row(place)).collect(),
            labels: labels.clone(),
            classes: classes.0.len(),
        }
    }

    fn penalty(&self, judged: &(Vec<usize>, Vec<usize>), classes: &Classes) -> Penalty {
        Penalty::choose(&self.lesson(judged, classes), &interrupts)
    }

    fn head(&self, judged: &(Vec<usize>, Vec<usize>), classes: &Classes, penalty: Penalty) -> Head {
        Head::fit(&self.lesson(judged, classes), penalty, &interrupts)
    }
}

fn interrupts() {
    check_for_interrupts!();
}
