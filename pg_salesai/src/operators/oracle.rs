//! The model that a cascade asks, and what it has said so far.

use domain::cascade::Features;
use proto::client::ClientError;
use proto::model::{ModelChoice, Priority, TextPurpose};
use serde_json::Value;

use super::application::{Distinct, Outcome};
use super::asking::Asking;
use crate::error::Error;
use crate::pipeline::embedding::{self, Text};

/// What the head reads of a document: about as much as an embedding model takes.
const HEAD_BYTES: usize = 700;

/// Each text is asked about once.
pub struct Oracle<'a> {
    pub asking: Asking<'a>,
    pub distinct: &'a Distinct<'a>,
    pub answers: Vec<Option<Outcome>>,
}

impl Oracle<'_> {
    /// All at once; those that have an answer are left out.
    pub fn ask(&mut self, places: impl IntoIterator<Item = usize>) -> Result<(), Error> {
        let mut places: Vec<usize> = places
            .into_iter()
            .filter(|&place| self.answers[place].is_none())
            .collect();
        places.sort_unstable();
        places.dedup();
        let texts: Vec<&str> = places
            .iter()
            .map(|&place| self.distinct.texts[place])
            .collect();
        for (place, answer) in places.into_iter().zip(self.asking.values(&texts)?) {
            self.answers[place] = Some(answer);
        }
        Ok(())
    }

    /// Places of the texts that were not asked about.
    pub fn unasked(&self) -> impl Iterator<Item = usize> {
        let answers = self.answers.iter().enumerate();
        answers.filter_map(|(place, answer)| answer.is_none().then_some(place))
    }

    /// Texts that have a value, and its class.
    pub fn judged(&self, classes: &mut Classes) -> (Vec<usize>, Vec<usize>) {
        let places = 0..self.answers.len();
        places
            .filter_map(|place| Some((place, self.class(place, classes)?)))
            .unzip()
    }

    /// None where the model failed or was not asked.
    pub fn class(&self, place: usize, classes: &mut Classes) -> Option<usize> {
        let value = self.answers[place].as_ref()?.as_ref().ok()?;
        Some(classes.number(value))
    }

    pub fn features(&self) -> Vec<Features> {
        let texts = self.distinct.texts.iter();
        texts.map(|text| Features::of(beginning(text))).collect()
    }

    /// Embeddings of the texts, empty where the model takes one not; None without an embedding model.
    pub fn vectors(&self, places: &[usize]) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let texts = places
            .iter()
            .map(|&place| Text::from(beginning(self.distinct.texts[place]).to_owned()))
            .collect();
        let deadline = self.asking.deadline;
        let (model, purpose) = (ModelChoice::Default, TextPurpose::Passage);
        match embedding::embed(&model, texts, purpose, Priority::Interactive, || deadline) {
            Err(Error::Sidecar(ClientError::NotFound(_))) => Ok(None),
            embedded => {
                let vectors = embedded?.vectors.into_iter();
                Ok(Some(vectors.map(Result::unwrap_or_default).collect()))
            }
        }
    }
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(HEAD_BYTES)]
}

/// Values that the oracle gave, numbered as they came.
pub struct Classes(pub Vec<Value>);

impl Classes {
    fn number(&mut self, value: &Value) -> usize {
        let known = self.0.iter().position(|class| class == value);
        known.unwrap_or_else(|| {
            self.0.push(value.clone());
            self.0.len() - 1
        })
    }
}
