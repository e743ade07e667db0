//! An answer that is given as a whole.

use std::time::Instant;

use domain::answer::build_prompt;
use domain::prompt_template::{PromptTemplate, Task};
use proto::client::ClientError;
use serde_json::Value;

use super::answer_json::outcome_json;
use super::asked::Asked;
use super::options::Options;
use super::packed_request::packed_request;
use crate::error::Error;
use crate::generation::{self, Draft};
use crate::sidecar::Deadline;

/// One call of the model, then every claim is checked against the evidence.
pub fn answered(question: &str, evidence: Value, options: Value) -> Result<Value, Error> {
    let mut asked = Asked::read(question, evidence, options)?;
    if !asked.is_related() {
        return Ok(outcome_json(&Err(asked.unrelated()?), &asked, None));
    }
    let start = Instant::now();
    let draft = draft(&mut asked)?;
    asked.timings.add("generation_ms", start);
    let start = Instant::now();
    let outcome = asked.outcome(draft.as_ref().map(|draft| draft.text.as_str()));
    asked.timings.add("check_ms", start);
    Ok(outcome_json(&outcome, &asked, draft.as_ref()))
}

/// Fails as [`answered`] would for such options, as far as the database knows.
pub fn check_options(options: Value) -> Result<(), Error> {
    let options: Options = serde_json::from_value(options)?;
    generation::checked_context(options.model.as_deref(), options.adapter.as_deref())?;
    Deadline::from_argument(options.timeout_ms)?;
    let template = PromptTemplate::built_in(Task::Insight);
    options.request(build_prompt(&template, "", &[])).map(drop)
}

/// What the model writes; None when it is not to be asked, or when the sidecar serves none by default.
fn draft(asked: &mut Asked) -> Result<Option<Draft>, Error> {
    if !asked.wants_model() {
        return Ok(None);
    }
    let request = packed_request(asked)?;
    match generation::generate(&request, asked.deadline) {
        Err(Error::Sidecar(ClientError::NotFound(_))) if asked.options.leaves_model_open() => {
            Ok(None)
        }
        draft => draft.map(Some),
    }
}
