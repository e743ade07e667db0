//! An answer that is given a sentence at a time, each as soon as it is written and checked.

use std::collections::VecDeque;
use std::time::Instant;

use domain::answer::{self, Abstention, Claim, Standing};
use proto::client::ClientError;
use serde_json::Value;

use super::answer_json::{ClaimWriter, outcome_json};
use super::asked::Asked;
use super::packed_request::packed_request;
use crate::error::Error;
use crate::generation::TextStream;

/// What ends a stream.
pub struct Ended {
    /// As [`super::answered`] has it.
    pub answer: Value,
    pub abstention: Option<Abstention>,
}

pub struct AnswerStream {
    asked: Asked,
    /// None when there is no text to wait for.
    text: Option<TextStream>,
    start: Instant,
    writer: ClaimWriter,
    /// Claims that were written out, and sentences that were looked at.
    claims: usize,
    sentences: usize,
    waiting: VecDeque<String>,
    ended: Option<Ended>,
    has_ended: bool,
}

/// A sentence with its citations, or what came of it all.
pub enum Item {
    Sentence(String),
    Ended(Ended),
}

impl AnswerStream {
    pub fn open(question: &str, evidence: Value, options: Value) -> Result<Self, Error> {
        let mut asked = Asked::read(question, evidence, options)?;
        let start = Instant::now();
        let text = match asked.is_related() && asked.wants_model() {
            true => open_text(&mut asked)?,
            false => None,
        };
        Ok(Self {
            asked,
            text,
            start,
            writer: ClaimWriter::default(),
            claims: 0,
            sentences: 0,
            waiting: VecDeque::new(),
            ended: None,
            has_ended: false,
        })
    }

    /// The next sentence; once, after the last, what came of it.
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(sentence) = self.waiting.pop_front() {
                return Ok(Some(Item::Sentence(sentence)));
            }
            if let Some(ended) = self.ended.take() {
                return Ok(Some(Item::Ended(ended)));
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.text.as_mut().map(TextStream::next_piece).transpose()? {
                Some(Some(_)) => self.write_settled(),
                _ => self.end()?,
            }
        }
    }

    /// Sentences that what is still to come cannot change.
    fn write_settled(&mut self) {
        let Some(text) = self.text.as_ref().map(|stream| &stream.draft().text) else {
            return;
        };
        let sentences = answer::settled_sentences(text);
        if sentences > self.sentences {
            self.sentences = sentences;
            let (question, evidence) = (&self.asked.question, &self.asked.evidence);
            let claims = answer::settled_claims(text, question, evidence);
            let claims = answer::weigh_claims(claims, question, evidence);
            // Where nothing holds so far there may be no answer in the end.
            if claims
                .iter()
                .any(|claim| claim.standing() == Standing::Holds)
            {
                self.write(&claims);
            }
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        let draft = self.text.as_ref().map(TextStream::draft);
        let outcome = match self.asked.is_related() {
            true => self.asked.outcome(draft.map(|draft| draft.text.as_str())),
            false => Err(self.asked.unrelated()?),
        };
        self.asked.timings.add("generation_ms", self.start);
        self.ended = Some(Ended {
            answer: outcome_json(&outcome, &self.asked, draft),
            abstention: outcome.as_ref().err().cloned(),
        });
        self.has_ended = true;
        if let Ok(answer) = outcome {
            self.write(&answer.claims);
        }
        Ok(())
    }

    /// Those of an answer's claims that were not written yet.
    fn write(&mut self, claims: &[Claim]) {
        for claim in claims.iter().skip(self.claims) {
            let sentence = self.writer.write(claim, &self.asked.evidence);
            self.waiting.push_back(sentence);
        }
        self.claims = self.claims.max(claims.len());
    }
}

/// None where the sidecar serves no model by default.
fn open_text(asked: &mut Asked) -> Result<Option<TextStream>, Error> {
    let request = packed_request(asked)?;
    match TextStream::open(&request, asked.deadline) {
        Err(Error::Sidecar(ClientError::NotFound(_))) if asked.options.leaves_model_open() => {
            Ok(None)
        }
        text => text.map(Some),
    }
}
