//! Answers from given evidence.

use domain::key_segments;
use pgrx::iter::SetOfIterator;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use pgrx::spi::Spi;
use pgrx::{JsonB, pg_sys};

use crate::answering::{self, AnswerStream, Ended, Item};
use crate::client_output;
use crate::error::Error;

#[pg_extern(sql = "")]
fn focused_queries(question: &str) -> Vec<String> {
    domain::answer::focused_queries(question)
}

#[pg_extern(sql = "")]
fn key_segments(contents: Vec<Option<String>>) -> Vec<i32> {
    let contents: Vec<&str> = contents
        .iter()
        .map(|content| content.as_deref().unwrap_or_default())
        .collect();
    let places = key_segments::key_segments(&contents).into_iter();
    places.filter_map(|at| i32::try_from(at + 1).ok()).collect()
}

#[pg_extern(sql = "")]
fn answer_question(question: &str, evidence: JsonB, options: JsonB) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(answering::answered(question, evidence.0, options.0)?))
}

#[pg_extern(sql = "")]
fn check_answer_options(options: JsonB) -> Result<(), ErrorReport> {
    Ok(answering::check_options(options.0)?)
}

/// A row for each sentence; what came of it all is kept as `kept` says.
#[pg_extern(sql = "")]
fn answer_stream(
    question: &str,
    evidence: JsonB,
    options: JsonB,
    kept: JsonB,
) -> Result<SetOfIterator<'static, String>, ErrorReport> {
    let mut stream = AnswerStream::open(question, evidence.0, options.0)?;
    Ok(SetOfIterator::new(client_output::row_by_row(move || {
        loop {
            match stream
                .next_item()
                .map_err(ErrorReport::from)
                .unwrap_or_report()?
            {
                Item::Sentence(sentence) => return Some(sentence),
                Item::Ended(ended) => keep(ended, &kept)
                    .map_err(ErrorReport::from)
                    .unwrap_or_report(),
            }
        }
    })))
}

/// Stores the answer, and says why there is none.
fn keep(ended: Ended, kept: &JsonB) -> Result<(), Error> {
    let Ended { answer, abstention } = ended;
    if let Some(abstention) = abstention {
        notice!("there is no answer: {}", abstention.name());
    }
    // SAFETY: a flag of this backend. SPI would assign a transaction id, which a standby has none of.
    #[allow(unsafe_code)]
    if unsafe { pg_sys::XactReadOnly } {
        return Ok(());
    }
    Spi::run_with_args(
        "select salesai.keep_stream($1, $2)",
        &[JsonB(answer).into(), JsonB(kept.0.clone()).into()],
    )?;
    Ok(())
}
