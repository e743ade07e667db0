//! The readable text of a MIME message, and its attachments.
//!
//! Parts are found here, and only single parts without parts of their own go to the MIME library to be decoded: given a
//! whole message, it recurses without limit into attached messages and searches the rest of the
//! message anew for each unfinished multipart, so that a crafted email could take a server down.

use mail_parser::{Message, MessageParser, MimeHeaders, PartType};

use crate::html_text::html_mail_to_text;
use crate::text_encoding::rightly_decoded;

/// Multiparts nested deeper than this are not read.
const DEPTH_MAX: usize = 8;

/// Attachments of one message that are looked at.
const ATTACHMENTS_MAX: usize = 100;

/// A file that came with a message.
pub(crate) struct AttachedFile {
    pub(crate) name: String,
    /// As the message says, in lower case.
    pub(crate) media_type: String,
    pub(crate) content: Vec<u8>,
}

/// The named files of a message and of messages attached to it.
pub(crate) fn attached_files(raw: &[u8]) -> Vec<AttachedFile> {
    let mut files = Vec::new();
    find_files(raw, 0, &mut files);
    files
}

fn find_files(part: &[u8], depth: usize, files: &mut Vec<AttachedFile>) {
    let Some(head) = MessageParser::default().parse_headers(part) else {
        return;
    };
    let (main_type, sub_type) = match head.content_type() {
        Some(content_type) => (
            content_type.ctype(),
            content_type.subtype().unwrap_or_default(),
        ),
        None => ("text", "plain"),
    };
    match main_type {
        "multipart" if depth < DEPTH_MAX => {
            for child in child_parts(part, &head).unwrap_or_default() {
                find_files(child, depth + 1, files);
            }
        }
        "message" if depth < DEPTH_MAX => {
            if let Some(message) = message_within(part, &head) {
                find_files(message, depth + 1, files);
            }
        }
        "multipart" | "message" => {}
        _ if depth > 0 && is_attachment(&head) && files.len() < ATTACHMENTS_MAX => {
            let content = decode_file(part);
            if let (Some(name), Some(content)) = (head.attachment_name(), content) {
                files.push(AttachedFile {
                    name: name.to_owned(),
                    media_type: format!("{main_type}/{sub_type}").to_lowercase(),
                    content,
                });
            }
        }
        _ => {}
    }
}

fn decode_file(part: &[u8]) -> Option<Vec<u8>> {
    let message = MessageParser::default().parse(part)?;
    match &message.parts.first()?.body {
        PartType::Text(text) | PartType::Html(text) => Some(text.as_bytes().to_vec()),
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}

/// All readable parts of a message, with a blank line between them.
pub(crate) fn readable_text(raw: &[u8]) -> String {
    let mut parts = text_parts(raw, 0);
    parts.retain(|part| !part.text.trim().is_empty());
    parts
        .into_iter()
        .map(|part| part.text)
        .collect::<Vec<_>>()
        .join("\n\n")
}

struct TextPart {
    kind: TextKind,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Plain,
    Html,
}

fn text_parts(part: &[u8], depth: usize) -> Vec<TextPart> {
    let Some(head) = MessageParser::default().parse_headers(part) else {
        return vec![undecoded_text(part)];
    };
    let (main_type, sub_type) = match head.content_type() {
        Some(content_type) => (content_type.ctype(), content_type.subtype()),
        None => ("text", Some("plain")),
    };
    match (main_type, sub_type) {
        ("multipart" | "message", _) if depth >= DEPTH_MAX => Vec::new(),
        ("message", Some("rfc822")) => attached_message(part, &head, depth),
        _ if depth > 0 && is_attachment(&head) => Vec::new(),
        ("multipart", Some("alternative")) => best_alternative(children(part, &head, depth)),
        ("multipart", _) => children(part, &head, depth).into_iter().flatten().collect(),
        ("text", None | Some("plain" | "html")) => decode_text(part).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A whole message that came along (RFC 2046, 5.2.1), as programs write one that is forwarded in the text.
fn attached_message(part: &[u8], head: &Message<'_>, depth: usize) -> Vec<TextPart> {
    let Some(message) = message_within(part, head) else {
        return Vec::new();
    };
    let Some(attached) = MessageParser::default().parse_headers(message) else {
        return Vec::new();
    };
    let lines = ["From", "Date", "Subject"].into_iter().filter_map(|name| {
        let value = attached.header_raw(name)?;
        let value = MessageParser::default()
            .parse(format!("Subject: {value}\n\n").as_bytes())?
            .subject()?
            .to_owned();
        Some(format!("{name}: {value}"))
    });
    let heading: Vec<String> =
        std::iter::once("---------- Forwarded message ----------".to_owned())
            .chain(lines)
            .collect();
    let mut parts = vec![TextPart {
        kind: TextKind::Plain,
        text: heading.join("\n"),
    }];
    parts.extend(text_parts(message, depth + 1));
    parts
}

fn is_message(part: &[u8]) -> bool {
    let head = MessageParser::default().parse_headers(part);
    head.as_ref()
        .and_then(|head| head.content_type())
        .is_some_and(|content_type| content_type.ctype() == "message")
}

/// The message that a part of type message has; it may not be encoded, and what is, is not followed.
fn message_within<'a>(part: &'a [u8], head: &Message<'_>) -> Option<&'a [u8]> {
    let is_identity = |encoding: &str| {
        ["7bit", "8bit", "binary"]
            .iter()
            .any(|name| encoding.eq_ignore_ascii_case(name))
    };
    let encoding = head.content_transfer_encoding();
    encoding
        .is_none_or(is_identity)
        .then(|| body(part, head).trim_ascii_start())
}

/// The texts of each part between the borders; the bare body where no border is found.
fn children(part: &[u8], head: &Message<'_>, depth: usize) -> Vec<Vec<TextPart>> {
    match child_parts(part, head) {
        Some(parts) => parts
            .into_iter()
            .map(|child| text_parts(child, depth + 1))
            .collect(),
        None => vec![vec![undecoded_text(body(part, head))]],
    }
}

/// The parts between the borders of a multipart; None where there is no border.
fn child_parts<'a>(part: &'a [u8], head: &Message<'_>) -> Option<Vec<&'a [u8]>> {
    let boundary = head
        .content_type()
        .and_then(|content_type| content_type.attribute("boundary"));
    let mut parts = split_parts(body(part, head), boundary?.trim().as_bytes());
    if parts.is_empty() {
        return None;
    }
    let sub_type = head
        .content_type()
        .and_then(|content_type| content_type.subtype());
    if sub_type == Some("report") {
        // What could not be delivered is where it was sent from.
        parts.retain(|child| !is_message(child));
    }
    Some(parts)
}

/// What follows the headers.
fn body<'a>(part: &'a [u8], head: &Message<'_>) -> &'a [u8] {
    let headers = head.headers().iter();
    let start = headers.map(|header| header.offset_end as usize).max();
    part.get(start.unwrap_or(0)..).unwrap_or_default()
}

/// What stands between the lines `--boundary`, up to `--boundary--` or the end.
fn split_parts<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut part_start = None;
    let mut at = 0;
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        let line_start = at;
        at += line.len();
        let border = line
            .strip_prefix(b"--")
            .and_then(|rest| rest.strip_prefix(boundary));
        let Some(rest) = border.map(<[u8]>::trim_ascii) else {
            continue;
        };
        if rest.is_empty() || rest == b"--" {
            parts.extend(part_start.map(|start| &body[start..line_start]));
            part_start = rest.is_empty().then_some(at);
        }
    }
    parts.extend(part_start.map(|start| &body[start..]));
    parts
}

/// Plain text if there is some, else the last part that can be read, which is the richest.
fn best_alternative(children: Vec<Vec<TextPart>>) -> Vec<TextPart> {
    let is_plain = |parts: &Vec<TextPart>| {
        parts
            .iter()
            .any(|part| part.kind == TextKind::Plain && !part.text.trim().is_empty())
    };
    let plain = children.iter().position(is_plain);
    let best = plain.or_else(|| children.iter().rposition(|parts| !parts.is_empty()));
    best.and_then(|at| children.into_iter().nth(at))
        .unwrap_or_default()
}

/// Decodes a part whose type is text, and which therefore has no parts of its own.
fn decode_text(part: &[u8]) -> Option<TextPart> {
    let message = MessageParser::default().parse(part)?;
    match &message.parts.first()?.body {
        PartType::Text(text) => Some(TextPart {
            kind: TextKind::Plain,
            text: rightly_decoded(text).into_owned(),
        }),
        PartType::Html(html) => Some(TextPart {
            kind: TextKind::Html,
            text: html_mail_to_text(&rightly_decoded(html)),
        }),
        _ => None,
    }
}

fn undecoded_text(part: &[u8]) -> TextPart {
    TextPart {
        kind: TextKind::Plain,
        text: String::from_utf8_lossy(part).into_owned(),
    }
}

/// A part that is declared as one, or has a file name: mail programs of phones and of macOS call files inline that are no
/// text of the message.
fn is_attachment(head: &Message<'_>) -> bool {
    let content_type = head.content_type();
    let is_text = content_type.is_none_or(|content_type| {
        content_type.ctype() == "text"
            && matches!(content_type.subtype(), None | Some("plain" | "html"))
    });
    match head.content_disposition() {
        Some(disposition) if disposition.is_attachment() => true,
        Some(_) => !is_text && head.attachment_name().is_some(),
        None => content_type.is_some_and(|content_type| content_type.has_attribute("name")),
    }
}

/// Whether what the message says can only be read with a key: PGP (RFC 3156) or S/MIME (RFC 8551).
pub(crate) fn is_encrypted(raw: &[u8]) -> bool {
    let Some(head) = MessageParser::default().parse_headers(raw) else {
        return false;
    };
    let Some(content_type) = head.content_type() else {
        return false;
    };
    match (
        content_type.ctype(),
        content_type.subtype().unwrap_or_default(),
    ) {
        ("multipart", "encrypted") => true,
        ("application", "pkcs7-mime" | "x-pkcs7-mime") => {
            content_type.attribute("smime-type") != Some("signed-data")
        }
        _ => false,
    }
}
