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
    let asked = embed(texts, TextPurpose::Query, deadline)?;
    let found = embed(sentences, TextPurpose::Passage, deadline)?;
    let model_sha256 = asked.model_sha256.clone();
    // A sidecar that was started anew in between may have others: words decide alone then.
    if model_sha256 != found.model_sha256 {
        return Ok(Vec::new());
    }
    let (asked, sentences) = (asked.into_vectors()?, found.into_vectors()?);
    let Some(question) = asked.first() else {
        return Ok(Vec::new());
    };
    let cosine = |sentence: &Vec<f32>| question.iter().zip(sentence).map(|(a, b)| a * b).sum();
    let cosines: Vec<f32> = sentences.iter().map(cosine).collect();
    if let Some(remembered) = remembered.filter(|kept| kept.model_sha256 == model_sha256) {
        remembered.keep(question, &cosines)?;
    }
    Ok(cosines)
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
