//! An answer as SQL reads it.

use domain::answer::{Abstention, Answer, Claim, Evidence, EvidenceSegment};
use serde_json::{Value, json};

use super::asked::Asked;
use super::contradictions_json::{contradictions, remark};
use crate::generation::Draft;

/// The fields of `salesai.insight_result`, and what it was made by.
pub fn outcome_json(
    outcome: &Result<Answer, Abstention>,
    asked: &Asked,
    draft: Option<&Draft>,
) -> Value {
    let mut json = match outcome {
        Ok(answer) => answer_json(answer, &asked.evidence),
        Err(abstention) => abstention_json(abstention, &asked.evidence),
    };
    json["timings"] = asked.timings.json();
    if let Some(draft) = draft.filter(|draft| !draft.started.model.is_empty()) {
        json["model"] = draft.started.model.clone().into();
        json["model_sha256"] = draft.started.model_sha256.clone().into();
        json["prompt_tokens"] = draft.started.prompt_tokens.into();
        json["completion_tokens"] = draft.finished.completion_tokens.into();
        json["prompt_version"] = asked.prompt_version.into();
        json["adapter"] = asked.options.adapter.clone().into();
        json["adapter_generation"] = match draft.started.adapter_generation {
            0 => Value::Null,
            generation => generation.into(),
        };
    }
    json
}

fn answer_json(answer: &Answer, evidence: &[Evidence]) -> Value {
    let (sentences, mut json) = claims_json(&answer.claims, evidence);
    json["answer"] = sentences.join(" ").into();
    json["method"] = answer.method.name().into();
    json["confidence"] = answer.confidence.into();
    json
}

/// What is in conflict is cited, though it is no answer.
fn abstention_json(abstention: &Abstention, evidence: &[Evidence]) -> Value {
    let mut json = match abstention {
        Abstention::Conflicting(claims) => claims_json(claims, evidence).1,
        _ => json!({}),
    };
    json["method"] = "abstained".into();
    json["reason"] = abstention.name().into();
    json
}

/// The sentences of the claims; their citations, and what contradicts what.
fn claims_json(claims: &[Claim], evidence: &[Evidence]) -> (Vec<String>, Value) {
    let mut writer = ClaimWriter::default();
    let sentences = claims.iter().map(|claim| writer.write(claim, evidence));
    let sentences = sentences.collect();
    let contradictions = contradictions(claims, evidence, &writer.citations);
    let mut json = json!({ "citations": writer.citations });
    if !contradictions.is_empty() {
        json["contradictions"] = contradictions.into();
    }
    (sentences, json)
}

/// Claims in the order of the answer, each of which ends with the numbers of its citations and, where it is contradicted,
/// a remark.
#[derive(Default)]
pub struct ClaimWriter {
    citations: Vec<Value>,
}

impl ClaimWriter {
    pub fn write(&mut self, claim: &Claim, evidence: &[Evidence]) -> String {
        let mut sentence = claim.text.trim().to_owned();
        for citation in &claim.citations {
            let Some(segment) =
                find_segment(evidence, citation.interaction_id, citation.segment_id)
            else {
                continue;
            };
            let number = self.citations.len() + 1;
            sentence.push_str(&format!(" [{number}]"));
            self.citations.push(json!({
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
        sentence.push_str(&remark(claim, evidence));
        sentence
    }
}

pub(super) fn find_segment(
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
