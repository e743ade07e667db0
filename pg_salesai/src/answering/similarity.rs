//! How near each sentence of the evidence is to the question.

use domain::answer::{self, Evidence};
use proto::model::{ModelChoice, Priority};
use proto::wire::ModelKind;

use crate::adapters::registry;
use crate::error::Error;
use crate::pipeline::embedding::{self, RememberedVector, Text};
use crate::result_cache::{self, Key};
use crate::sidecar::{self, Deadline};

/// Cosine of the question with each sentence of the evidence; vectors have length 1. They are remembered, and so is the
/// question's vector, which search asks for.
pub fn similarities(
    question: &str,
    evidence: &[Evidence],
    deadline: Deadline,
) -> Result<Vec<f32>, Error> {
    let mut texts = vec![question.to_owned()];
    texts.extend(answer::evidence_sentences(evidence));
    let remembered = Remembered::of(&texts, deadline)?;
    if let Some(cosines) = remembered
        .as_ref()
        .map(Remembered::read)
        .transpose()?
        .flatten()
    {
        return Ok(cosines);
    }
    let texts = texts.into_iter().map(Text::from).collect();
    let vectors = embedding::embed(&ModelChoice::Default, texts, Priority::Interactive, || {
        deadline
    })?
    .into_vectors()?;
    let Some((question, sentences)) = vectors.split_first() else {
        return Ok(Vec::new());
    };
    let cosine = |sentence: &Vec<f32>| question.iter().zip(sentence).map(|(a, b)| a * b).sum();
    let cosines: Vec<f32> = sentences.iter().map(cosine).collect();
    if let Some(remembered) = remembered {
        remembered.keep(question, &cosines)?;
    }
    Ok(cosines)
}

/// Cosines of the same texts, and the vector of the first.
struct Remembered {
    cosines: Key,
    question: RememberedVector,
}

impl Remembered {
    fn of(texts: &[String], deadline: Deadline) -> Result<Option<Self>, Error> {
        if !result_cache::is_used()? {
            return Ok(None);
        }
        let weights = sidecar::local_weights(ModelKind::Embedding, None, deadline)?;
        let (Some(weights), Some(question)) = (weights, texts.first()) else {
            return Ok(None);
        };
        let salt = registry::context(None, None)?.cache_salt;
        let parts = [weights.as_bytes(), &salt].into_iter();
        let parts = parts.chain(texts.iter().map(String::as_bytes));
        Ok(Some(Self {
            cosines: result_cache::key("cosines 1", parts),
            question: RememberedVector::of(&weights, question)?,
        }))
    }

    fn read(&self) -> Result<Option<Vec<f32>>, Error> {
        let found = result_cache::read(std::slice::from_ref(&self.cosines))?;
        Ok(found
            .get(&self.cosines)
            .map(|bytes| embedding::floats(bytes)))
    }

    fn keep(self, question: &[f32], cosines: &[f32]) -> Result<(), Error> {
        result_cache::write(vec![
            (self.cosines, embedding::bytes(cosines)),
            self.question.with(question),
        ])
    }
}
