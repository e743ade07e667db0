//! Parsers of what arrives, as JSON for the SQL that stores it.

use domain::Segment;
use domain::email::{self, Email, Mailbox};
use domain::paragraphs;
use domain::transcript::{self, FormatChoice};
use pgrx::JsonB;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::error::Error;

#[pg_extern(sql = "")]
fn parse_transcript(transcript: &str, format: &str) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(transcript_json(transcript, format)?))
}

#[pg_extern(sql = "")]
fn parse_email(message: &[u8]) -> Result<JsonB, ErrorReport> {
    let email = email::parse_email(message).map_err(Error::from)?;
    let mut json = email_json(&email);
    json["media_type"] = email::media_type(message).into();
    Ok(JsonB(json))
}

#[pg_extern(sql = "")]
fn parse_markdown(content: &str) -> Result<JsonB, ErrorReport> {
    let segments = paragraphs::split_markdown(content).map_err(Error::from)?;
    Ok(JsonB(segments_json(&segments)))
}

#[pg_extern(sql = "")]
fn parse_note(body: &str) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(note_json(body)?))
}

#[pg_extern(sql = "")]
fn email_attachments(
    message: &[u8],
) -> Result<
    TableIterator<
        'static,
        (
            name!(number, i32),
            name!(filename, String),
            name!(mime, String),
            name!(content, Vec<u8>),
        ),
    >,
    ErrorReport,
> {
    let attachments = email::attached_documents(message).map_err(Error::from)?;
    let rows = (1..).zip(attachments).map(|(number, attachment)| {
        let email::Attachment {
            file_name,
            media_type,
            content,
        } = attachment;
        (number, file_name, media_type, content)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

fn transcript_json(transcript: &str, format: &str) -> Result<Value, Error> {
    let choice: FormatChoice = format.parse()?;
    let parsed = transcript::parse_transcript(transcript, choice)?;
    Ok(json!({
        "format": parsed.format.name(),
        "duration_ms": parsed.duration_ms(),
        "segments": segments_json(&parsed.segments),
    }))
}

fn note_json(body: &str) -> Result<Value, Error> {
    if body.trim().is_empty() {
        return Err(Error::argument("note is empty"));
    }
    let segments = paragraphs::split_paragraphs(body)?;
    Ok(segments_json(&segments))
}

fn email_json(email: &Email) -> Value {
    let recipients = email.to.iter().chain(&email.cc);
    let participants: Vec<Value> = email
        .from
        .iter()
        .map(|mailbox| (mailbox, "from"))
        .chain(recipients.map(|mailbox| (mailbox, "to")))
        .map(|(mailbox, role)| mailbox_json(mailbox, role))
        .collect();
    json!({
        "message_id": email.message_id,
        "thread_key": email.references.first().or(email.in_reply_to.as_ref()).or(email.message_id.as_ref()),
        "subject": email.subject,
        "sent_at_ms": email.sent_at_ms,
        "participants": participants,
        "segments": segments_json(&email.segments),
    })
}

fn mailbox_json(mailbox: &Mailbox, role: &str) -> Value {
    json!({ "name": mailbox.name, "email": mailbox.address, "role": role })
}

fn segments_json(segments: &[Segment]) -> Value {
    segments
        .iter()
        .map(|segment| {
            json!({
                "speaker": segment.speaker,
                "turn": segment.turn,
                "start_char": segment.start_char,
                "end_char": segment.end_char,
                "start_ms": segment.start_ms,
                "end_ms": segment.end_ms,
                "content": segment.content,
            })
        })
        .collect()
}
