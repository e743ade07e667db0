//! What arrived, read as segments: documents by the sidecar, which does it in a process of its own, all else here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use domain::email::parse_email;
use domain::language::language;
use domain::paragraphs::{split_html, split_markdown, split_paragraphs};
use domain::transcript::{FormatChoice, TranscriptFormat, parse_transcript};
use domain::{Part, Segment};
use proto::client::ClientError;
use proto::model::DocumentHeader;
use proto::wire::DocumentProblem;
use serde_json::{Value, json};

use crate::error::Error;
use crate::segments::segments_json;
use crate::sidecar::{self, Deadline};

/// An original as the queue hands it out.
pub struct Payload {
    /// Of the interaction.
    pub kind: String,
    /// Documents have one.
    pub file_name: String,
    pub media_type: String,
    pub content: Vec<u8>,
}

/// What it says, or why it says nothing.
pub enum Reading {
    Text(PayloadText),
    /// In words, none of the customer's.
    Problem(String),
}

#[derive(Default)]
pub struct PayloadText {
    segments: Vec<Segment>,
    duration_ms: Option<i64>,
    /// Documents: their title, their real media type, and the text that segments count characters of.
    title: String,
    media_type: Option<String>,
    pub markdown: Option<String>,
}

impl PayloadText {
    /// As `salesai.store_reading` reads it.
    pub fn to_json(&self) -> Value {
        let said = self
            .segments
            .iter()
            .filter(|segment| segment.part == Part::Body);
        json!({
            "title": self.title,
            "media_type": self.media_type,
            "duration_ms": self.duration_ms,
            "language": language(said.map(|segment| segment.content.as_str())),
            "segments": segments_json(&self.segments),
        })
    }
}

impl From<Vec<Segment>> for PayloadText {
    fn from(segments: Vec<Segment>) -> Self {
        Self {
            segments,
            ..Self::default()
        }
    }
}

pub fn read(payload: Payload, deadline: Deadline) -> Result<Reading, Error> {
    if payload.kind == "document" {
        return read_document(payload, deadline);
    }
    // A parser's mistake must not take the process with it, and with that everybody's work.
    let text = catch_unwind(AssertUnwindSafe(|| read_text(&payload)))
        .unwrap_or_else(|_| Err("its parser failed".to_owned()));
    Ok(match text {
        Ok(text) => Reading::Text(text),
        Err(problem) => Reading::Problem(problem),
    })
}

fn read_text(payload: &Payload) -> Result<PayloadText, String> {
    match payload.kind.as_str() {
        "email" => parse_email(&payload.content)
            .map(|email| email.segments.into())
            .map_err(|error| error.to_string()),
        "note" | "crm_activity" => {
            // It arrived as SQL text.
            let text = String::from_utf8_lossy(&payload.content);
            let segments = match payload.media_type.as_str() {
                "text/html" => split_html(&text),
                _ => split_paragraphs(&text),
            };
            segments
                .map(PayloadText::from)
                .map_err(|error| error.to_string())
        }
        _ => read_transcript(payload),
    }
}

fn read_transcript(payload: &Payload) -> Result<PayloadText, String> {
    let format = FormatChoice::Fixed(TranscriptFormat::of_media_type(&payload.media_type));
    // It arrived as SQL text.
    let text = String::from_utf8_lossy(&payload.content);
    let transcript = parse_transcript(&text, format).map_err(|error| error.to_string())?;
    Ok(PayloadText {
        duration_ms: transcript.duration_ms(),
        segments: transcript.segments,
        ..PayloadText::default()
    })
}

fn read_document(payload: Payload, deadline: Deadline) -> Result<Reading, Error> {
    let header = DocumentHeader {
        file_name: payload.file_name,
        media_type: payload.media_type,
    };
    let response = sidecar::call(deadline, async |client| {
        client
            .read_document(header, payload.content, deadline.remaining())
            .await
    })?;
    match response.problem() {
        DocumentProblem::Unspecified if response.markdown.is_empty() => {
            let detail = "It sent neither a text nor a problem.".to_owned();
            Err(ClientError::Failed { detail }.into())
        }
        DocumentProblem::Unspecified => Ok(match split_markdown(&response.markdown) {
            Ok(segments) => Reading::Text(PayloadText {
                segments,
                title: response.title,
                media_type: Some(response.media_type),
                markdown: Some(response.markdown),
                duration_ms: None,
            }),
            Err(error) => Reading::Problem(error.to_string()),
        }),
        _ => Ok(Reading::Problem(response.problem_detail)),
    }
}
