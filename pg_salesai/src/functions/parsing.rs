//! Parsers of what arrives, as JSON for the SQL that stores it.

use domain::email::{self, Headers, Mailbox};
use domain::transcript::{self, FormatChoice};
use domain::{paragraphs, table, text_encoding};
use pgrx::JsonB;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::error::Error;
use crate::segments::segments_json;

#[pg_extern(sql = "")]
fn parse_transcript(transcript: &str, format: &str) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(transcript_json(transcript, format)?))
}

#[pg_extern(sql = "")]
fn parse_email(message: &[u8]) -> Result<JsonB, ErrorReport> {
    let email = email::parse_email(message).map_err(Error::from)?;
    // Schemas of before 0.3.0 store what this returns, and cannot finish without a text.
    if email.segments.is_empty() {
        Err(Error::argument("email has no text"))?;
    }
    let mut json = headers_json(&email.headers);
    json["segments"] = segments_json(&email.segments);
    json["media_type"] = email::media_type(message).into();
    Ok(JsonB(json))
}

/// Format and duration of a transcript that can be read.
#[pg_extern(sql = "")]
fn inspect_transcript(transcript: &str, format: &str) -> Result<JsonB, ErrorReport> {
    let choice: FormatChoice = format.parse().map_err(Error::from)?;
    let (format, duration_ms) =
        transcript::inspect_transcript(transcript, choice).map_err(Error::from)?;
    Ok(JsonB(json!({
        "format": format.name(),
        "media_type": format.media_type(),
        "duration_ms": duration_ms,
    })))
}

#[pg_extern(sql = "")]
fn decode_text(content: &[u8]) -> Result<String, ErrorReport> {
    Ok(text_encoding::decode_text(content, None).ok_or(Error::NotText)?)
}

/// Headers of a message.
#[pg_extern(sql = "")]
fn email_headers(message: &[u8]) -> Result<JsonB, ErrorReport> {
    let headers = email::parse_headers(message).map_err(Error::from)?;
    let mut json = headers_json(&headers);
    json["media_type"] = email::media_type(message).into();
    Ok(JsonB(json))
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

/// Records of a CSV file.
#[pg_extern(sql = "")]
fn csv_records(content: &str) -> Result<JsonB, ErrorReport> {
    let records = table::parse_records(content).map_err(Error::from)?;
    Ok(JsonB(json!(records)))
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

fn headers_json(headers: &Headers) -> Value {
    let recipients = headers.to.iter().chain(&headers.cc);
    let participants: Vec<Value> = headers
        .from
        .iter()
        .map(|mailbox| (mailbox, "from"))
        .chain(recipients.map(|mailbox| (mailbox, "to")))
        .map(|(mailbox, role)| mailbox_json(mailbox, role))
        .collect();
    json!({
        "message_id": headers.message_id,
        "thread_key": headers.references.first().or(headers.in_reply_to.as_ref()).or(headers.message_id.as_ref()),
        "subject": headers.subject,
        "sent_at_ms": headers.sent_at_ms,
        "participants": participants,
        "mail_kind": headers.kind.name(),
    })
}

fn mailbox_json(mailbox: &Mailbox, role: &str) -> Value {
    json!({ "name": mailbox.name, "email": mailbox.address, "role": role })
}
