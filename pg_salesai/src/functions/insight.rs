//! An answer from given evidence: one model call, then every claim is checked against the evidence.

use std::time::Instant;

use domain::answer::{self, Abstention, Answer, Evidence, EvidenceSegment};
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use proto::client::ClientError;
use proto::model::{GenerationRequest, ModelChoice, Priority, Sampling};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::generation::{self, Draft, Prompted};
use crate::pipeline::embedding::{self, Text};
use crate::sidecar::Deadline;

/// Options of one answer, as `salesai.insight` gives them.
#[derive(Deserialize)]
struct Options {
    model: Option<String>,
    adapter: Option<String>,
    timeout_ms: Option<i32>,
    max_tokens: Option<i32>,
    #[serde(default)]
    seed: i64,
    method: Option<Method>,
}

/// The only way in which the answer may come about.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Method {
    Generated,
    Extractive,
}

/// Evidence as `salesai.evidence` writes it.
#[derive(Deserialize)]
struct EvidenceRow {
    number: u32,
    interaction_id: i64,
    title: String,
    occurred_on: String,
    segments: Option<Vec<SegmentRow>>,
}

#[derive(Deserialize)]
struct SegmentRow {
    segment_id: i64,
    speaker: Option<String>,
    start_ms: Option<i64>,
    end_ms: Option<i64>,
    start_char: u32,
    end_char: u32,
    content: String,
}

#[pg_extern(sql = "")]
fn answer_question(question: &str, evidence: JsonB, options: JsonB) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(answered(question, evidence.0, options.0)?))
}

fn answered(question: &str, evidence: Value, options: Value) -> Result<Value, Error> {
    let rows: Vec<EvidenceRow> = serde_json::from_value(evidence)?;
    let options: Options = serde_json::from_value(options)?;
    // Also where the answer then needs no model.
    generation::checked_context(options.model.as_deref(), options.adapter.as_deref())?;
    let evidence: Vec<Evidence> = rows.into_iter().map(Evidence::from).collect();
    if evidence.is_empty() {
        return Ok(outcome_json(
            Err(Abstention::NoMatch),
            &evidence,
            &Draft::default(),
        ));
    }
    let deadline = Deadline::from_argument(options.timeout_ms)?;
    let mut timings = Timings::default();
    let similarities = timings.take("similarity_ms", || {
        similarities(question, &evidence, deadline)
    })?;
    if !answer::is_related(question, &evidence, &similarities) {
        let mut json = outcome_json(Err(Abstention::NoMatch), &evidence, &Draft::default());
        json["timings"] = Value::Object(timings.0);
        return Ok(json);
    }
    let draft = timings.take("generation_ms", || {
        draft(question, &evidence, &options, deadline)
    })?;
    let outcome = timings.take("check_ms", || {
        let extracted = || answer::extract_answer(question, &evidence, &similarities);
        match (&draft, options.method) {
            (Some(draft), Some(Method::Generated)) => {
                answer::judge_answer(&draft.text, question, &evidence)
            }
            (Some(draft), _) => {
                answer::judge_answer(&draft.text, question, &evidence).or_else(|_| extracted())
            }
            (None, Some(Method::Generated)) => Err(Abstention::ModelUnavailable),
            (None, _) => extracted(),
        }
    });
    let adapter = options.adapter.filter(|_| draft.is_some());
    let draft = draft.unwrap_or_default();
    let mut json = outcome_json(outcome, &evidence, &draft);
    json["timings"] = Value::Object(timings.0);
    json["adapter"] = adapter.into();
    json["adapter_generation"] = match draft.started.adapter_generation {
        0 => Value::Null,
        generation => generation.into(),
    };
    Ok(json)
}

/// Milliseconds of each step.
#[derive(Default)]
struct Timings(Map<String, Value>);

impl Timings {
    fn take<T>(&mut self, name: &str, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = step();
        let ms = (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        self.0.insert(name.to_owned(), ms.into());
        result
    }
}

/// What the model writes; None when it is not to be asked, or when the sidecar serves none by default.
fn draft(
    question: &str,
    evidence: &[Evidence],
    options: &Options,
    deadline: Deadline,
) -> Result<Option<Draft>, Error> {
    if options.method == Some(Method::Extractive) {
        return Ok(None);
    }
    let request = generation_request(question, evidence, options)?;
    let is_default = options.model.is_none() && options.adapter.is_none();
    match generation::generate(&request, deadline) {
        Err(Error::Sidecar(ClientError::NotFound(_))) if is_default => Ok(None),
        draft => draft.map(Some),
    }
}

/// Cosine of the question with each sentence of the evidence; vectors have length 1.
fn similarities(
    question: &str,
    evidence: &[Evidence],
    deadline: Deadline,
) -> Result<Vec<f32>, Error> {
    let mut texts = vec![question.to_owned()];
    texts.extend(answer::evidence_sentences(evidence));
    let texts = texts.into_iter().map(Text::from).collect();
    let vectors = embedding::embed(&ModelChoice::Default, texts, Priority::Interactive, || {
        deadline
    })?
    .into_vectors()?;
    let Some((question, sentences)) = vectors.split_first() else {
        return Ok(Vec::new());
    };
    let cosine = |sentence: &Vec<f32>| question.iter().zip(sentence).map(|(a, b)| a * b).sum();
    Ok(sentences.iter().map(cosine).collect())
}

fn generation_request(
    question: &str,
    evidence: &[Evidence],
    options: &Options,
) -> Result<GenerationRequest, Error> {
    let tokens_max = options.max_tokens.unwrap_or(96);
    let tokens_max = u32::try_from(tokens_max).ok().filter(|&tokens| tokens > 0);
    let prompt = answer::build_prompt(question, evidence);
    Ok(GenerationRequest {
        // Facts are asked for, not ideas: the likeliest text, reproducible. The seed is kept with the
        // answer for models that sample.
        sampling: match options.seed {
            0 => Sampling::GREEDY,
            seed => Sampling::nucleus(0.7, 0.9, seed.unsigned_abs()),
        },
        ..Prompted {
            model: options.model.clone(),
            adapter: options.adapter.clone(),
            system: prompt.system,
            user: prompt.user,
            tokens_max: tokens_max
                .ok_or_else(|| Error::argument("max_tokens must be at least 1"))?,
        }
        .into()
    })
}

/// The fields of `salesai.insight_result`, and the digest of the weights.
fn outcome_json(
    outcome: Result<Answer, Abstention>,
    evidence: &[Evidence],
    draft: &Draft,
) -> Value {
    let mut json = match outcome {
        Ok(answer) => answer_json(&answer, evidence),
        Err(abstention) => json!({ "method": "abstained", "reason": abstention.name() }),
    };
    if !draft.started.model.is_empty() {
        json["model"] = draft.started.model.clone().into();
        json["model_sha256"] = draft.started.model_sha256.clone().into();
        json["prompt_tokens"] = draft.started.prompt_tokens.into();
        json["completion_tokens"] = draft.finished.completion_tokens.into();
    }
    json
}

/// Citations are numbered in the order of the answer; each claim ends with its numbers.
fn answer_json(answer: &Answer, evidence: &[Evidence]) -> Value {
    let mut citations = Vec::new();
    let mut sentences = Vec::new();
    for claim in &answer.claims {
        let mut sentence = claim.text.trim().to_owned();
        for citation in &claim.citations {
            let Some(segment) =
                find_segment(evidence, citation.interaction_id, citation.segment_id)
            else {
                continue;
            };
            let number = citations.len() + 1;
            sentence.push_str(&format!(" [{number}]"));
            citations.push(json!({
                "number": number,
                "claim": claim.text,
                "interaction_id": citation.interaction_id,
                "segment_id": citation.segment_id,
                "speaker": segment.speaker,
                "start_ms": segment.start_ms,
                "end_ms": segment.end_ms,
                "start_char": segment.start_char,
                "end_char": segment.end_char,
                "quote": citation.quote,
                "similarity": citation.similarity,
            }));
        }
        sentences.push(sentence);
    }
    json!({
        "answer": sentences.join(" "),
        "method": answer.method.name(),
        "confidence": answer.confidence,
        "citations": citations,
    })
}

fn find_segment(
    evidence: &[Evidence],
    interaction_id: i64,
    segment_id: i64,
) -> Option<&EvidenceSegment> {
    evidence
        .iter()
        .filter(|item| item.interaction_id == interaction_id)
        .flat_map(|item| &item.segments)
        .find(|segment| segment.segment_id == segment_id)
}

impl From<EvidenceRow> for Evidence {
    fn from(row: EvidenceRow) -> Self {
        Self {
            number: row.number,
            interaction_id: row.interaction_id,
            segments: row
                .segments
                .unwrap_or_default()
                .into_iter()
                .map(EvidenceSegment::from)
                .collect(),
            occurred_on: row.occurred_on,
            title: row.title,
        }
    }
}

impl From<SegmentRow> for EvidenceSegment {
    fn from(row: SegmentRow) -> Self {
        Self {
            segment_id: row.segment_id,
            speaker: row.speaker,
            start_ms: row.start_ms,
            end_ms: row.end_ms,
            start_char: row.start_char,
            end_char: row.end_char,
            content: row.content,
        }
    }
}
