//! How near each sentence of the evidence is to the question.

use domain::answer::{self, Evidence};
use proto::model::{ModelChoice, Priority, TextPurpose};
use proto::wire::ModelKind;

use crate::adapters::registry;
use crate::error::Error;
use crate::pipeline::embedding::{self, Embedded, RememberedVector, Text};
use crate::result_cache::{self, Key, ResultCache};
use crate::sidecar::{Deadline, Served};
use crate::usage::{self, Measure};

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
    let sentences = texts.split_off(1);
    let Some(near) = Near::to(question, sentences, deadline)? else {
        return Ok(Vec::new());
    };
    if let Some(remembered) = remembered.filter(|kept| kept.model_sha256 == near.model_sha256) {
        remembered.keep(&near.question, &near.cosines)?;
    }
    Ok(near.cosines)
}

/// How near texts are to a question, by the default embedding model.
pub struct Near {
    model_sha256: String,
    question: Vec<f32>,
    /// In the order of the texts.
    pub cosines: Vec<f32>,
}

impl Near {
    /// The question is embedded as one, the texts as passages. None where the sidecar was started anew in between, with
    /// other weights.
    pub fn to(
        question: &str,
        texts: Vec<String>,
        deadline: Deadline,
    ) -> Result<Option<Self>, Error> {
        let asked = embed(vec![question.to_owned()], TextPurpose::Query, deadline)?;
        let found = embed(texts, TextPurpose::Passage, deadline)?;
        let model_sha256 = asked.model_sha256.clone();
        // Without texts nothing was asked.
        if !found.vectors.is_empty() && model_sha256 != found.model_sha256 {
            return Ok(None);
        }
        let (asked, passages) = (asked.into_vectors()?, found.into_vectors()?);
        let question = asked.into_iter().next().unwrap_or_default();
        let cosine = |passage: &Vec<f32>| question.iter().zip(passage).map(|(a, b)| a * b).sum();
        Ok(Some(Self {
            cosines: passages.iter().map(cosine).collect(),
            question,
            model_sha256,
        }))
    }
}

fn embed(texts: Vec<String>, purpose: TextPurpose, deadline: Deadline) -> Result<Embedded, Error> {
    let (model, texts) = (ModelChoice::Default, texts.into_iter().map(Text::from));
    embedding::embed(
        &model,
        texts.collect(),
        purpose,
        Priority::Interactive,
        || deadline,
    )
}

/// Cosines of the same texts, and the vector of the first.
struct Remembered {
    cache: ResultCache,
    model_sha256: String,
    cosines: Key,
    question: RememberedVector,
}

impl Remembered {
    fn of(texts: &[String], deadline: Deadline) -> Result<Option<Self>, Error> {
        let Some(cache) = ResultCache::open()? else {
            return Ok(None);
        };
        let served = Served::find(ModelKind::Embedding, None, deadline)?;
        let (Some(served), Some(question)) = (served, texts.first()) else {
            return Ok(None);
        };
        let salt = registry::context(None, None)?.cache_salt;
        let parts = [served.sha256.as_bytes(), &salt].into_iter();
        let parts = parts.chain(texts.iter().map(String::as_bytes));
        Ok(Some(Self {
            cosines: result_cache::key("cosines 2", parts),
            question: RememberedVector::of(&served.sha256, question)?,
            cache,
            model_sha256: served.sha256,
        }))
    }

    fn read(&self) -> Result<Option<Vec<f32>>, Error> {
        let found = self.cache.read(std::slice::from_ref(&self.cosines))?;
        let kept = found.get(&self.cosines).and_then(|kept| kept.first());
        usage::count(Measure::Remembered, i64::from(kept.is_some()));
        Ok(kept.map(|bytes| embedding::floats(bytes)))
    }

    fn keep(self, question: &[f32], cosines: &[f32]) -> Result<(), Error> {
        self.cache.write(vec![
            (self.cosines, embedding::bytes(cosines)),
            self.question.with(question),
        ])
    }
}
