//! Emails (RFC 5322 with MIME, or Outlook's `.msg`): who, when, which thread, and the text.

use std::borrow::Cow;
use std::fmt;

use mail_parser::{Address, HeaderName, HeaderValue, Message, MessageParser, MimeHeaders};

pub use crate::error::EmailError;
use crate::mail_parts::Sender;
use crate::mime_text::{attached_files, is_encrypted, readable_text};
use crate::outlook_message::{is_outlook_message, to_mime};
use crate::paragraphs::split_mail;
use crate::redacted::Redacted;
use crate::segment::Segment;
use crate::text_encoding::decode_utf16;

/// The largest message in bytes.
pub const EMAIL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Ids in `References` and addresses in `To` or `Cc` beyond this many are left out.
const HEADER_ENTRIES_MAX: usize = 1000;

/// Characters of an attachment's name and media type that are kept.
const FILE_NAME_CHARS_MAX: usize = 250;

const MEDIA_TYPE_CHARS_MAX: usize = 60;

/// Who, when, which thread, and whether a person wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Headers {
    /// `Message-ID` without its angle brackets.
    pub message_id: Option<String>,
    /// The message that this one answers.
    pub in_reply_to: Option<String>,
    /// The thread before this message, oldest first.
    pub references: Vec<String>,
    /// The subject, decoded.
    pub subject: Option<String>,
    /// The `Date` header in Unix milliseconds.
    pub sent_at_ms: Option<i64>,
    /// The first address of `From`.
    pub from: Option<Mailbox>,
    /// The addresses of `To`.
    pub to: Vec<Mailbox>,
    /// The addresses of `Cc`.
    pub cc: Vec<Mailbox>,
    pub kind: MailKind,
}

/// Who wrote a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    /// A person, as far as the mail says.
    Personal,
    /// A program that answers or reports (RFC 3834): out of office, a ticket's receipt.
    AutoReply,
    /// A mail server that could not deliver a mail (RFC 3464).
    Bounce,
}

/// One email with its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    pub headers: Headers,
    /// The text of the message; HTML is turned into text where there is nothing else. Empty when there is none.
    pub body: String,
    /// The paragraphs of `body`, spoken by the sender.
    pub segments: Vec<Segment>,
}

/// Beginnings of subjects that mail programs give to automatic answers.
const AUTO_REPLY_SUBJECTS: [&str; 8] = [
    "automatic reply:",
    "auto-reply:",
    "autoreply:",
    "out of office:",
    "out of the office:",
    "automatische antwort:",
    "abwesenheitsnotiz:",
    "réponse automatique",
];

/// Beginnings of subjects of forwarded mails.
const FORWARD_SUBJECTS: [&str; 6] = ["fw:", "fwd:", "wg:", "tr:", "rv:", "i:"];

/// Endings of the names of files that may be read as documents.
const DOCUMENT_ENDINGS: [&str; 19] = [
    "pdf", "docx", "docm", "pptx", "pptm", "ppsx", "xlsx", "xlsm", "xls", "ods", "odt", "epub",
    "rtf", "html", "htm", "csv", "md", "markdown", "txt",
];

/// A document that came with an email.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    pub file_name: String,
    /// As the message says; may be wrong.
    pub media_type: String,
    pub content: Vec<u8>,
}

/// The attached documents of a message in their order; pictures, archives, calendar entries and empty files are
/// left out.
pub fn attached_documents(raw: &[u8]) -> Result<Vec<Attachment>, EmailError> {
    check_size(raw)?;
    let raw = &*as_mime(raw)?;
    let is_document = |name: &str| {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending);
        ending.is_some_and(|ending| {
            DOCUMENT_ENDINGS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(ending))
        })
    };
    let files = attached_files(raw).into_iter();
    Ok(files
        .filter(|file| is_document(&file.name) && !file.content.is_empty())
        .map(|file| Attachment {
            // PostgreSQL cannot store NUL.
            file_name: file
                .name
                .replace('\0', "")
                .chars()
                .take(FILE_NAME_CHARS_MAX)
                .collect(),
            media_type: file
                .media_type
                .replace('\0', "")
                .chars()
                .take(MEDIA_TYPE_CHARS_MAX)
                .collect(),
            content: file.content,
        })
        .collect())
}

/// A name and its email address.
#[derive(Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name.
    pub name: Option<String>,
    /// The address as written.
    pub address: String,
}

/// Media type of a message.
pub fn media_type(raw: &[u8]) -> &'static str {
    match is_outlook_message(raw) {
        true => "application/vnd.ms-outlook",
        false => "message/rfc822",
    }
}

/// Reads the headers of one message.
pub fn parse_headers(raw: &[u8]) -> Result<Headers, EmailError> {
    check_size(raw)?;
    read_headers(&as_mime(raw)?)
}

/// Reads one message.
pub fn parse_email(raw: &[u8]) -> Result<Email, EmailError> {
    check_size(raw)?;
    let raw = &*as_mime(raw)?;
    let headers = read_headers(raw)?;
    if is_encrypted(raw) {
        return Err(EmailError::Encrypted);
    }
    // PostgreSQL cannot store NUL.
    let body = readable_text(raw).replace("\r\n", "\n").replace('\0', "");
    let sender = headers.from.as_ref().map(|mailbox| Sender {
        name: mailbox.name.as_deref(),
        address: &mailbox.address,
    });
    let segments = split_mail(&body, sender, headers.is_forward())?;
    Ok(Email {
        headers,
        body,
        segments,
    })
}

impl MailKind {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::AutoReply => "auto_reply",
            Self::Bounce => "bounce",
        }
    }

    fn of(message: &Message<'_>, from: Option<&Mailbox>, subject: Option<&str>) -> Self {
        let header = |name: &str| {
            let value = message.header(name).and_then(HeaderValue::as_text);
            value.map(|value| value.trim().to_lowercase())
        };
        let is_report = message.content_type().is_some_and(|content_type| {
            content_type.subtype() == Some("report")
                && content_type.attribute("report-type") == Some("delivery-status")
        });
        let sender = from
            .map_or("", |mailbox| mailbox.address.as_str())
            .to_lowercase();
        if is_report
            || header("X-Failed-Recipients").is_some()
            || sender.starts_with("mailer-daemon@")
        {
            return Self::Bounce;
        }
        let subject = subject.unwrap_or_default().to_lowercase();
        let is_automatic = header("Auto-Submitted").is_some_and(|value| value != "no")
            || header("X-Autoreply").is_some()
            || header("X-Autorespond").is_some()
            || header("Precedence").is_some_and(|value| value == "auto_reply")
            || AUTO_REPLY_SUBJECTS
                .iter()
                .any(|start| subject.starts_with(start));
        match is_automatic {
            true => Self::AutoReply,
            false => Self::Personal,
        }
    }
}

impl Headers {
    fn is_forward(&self) -> bool {
        let subject = self.subject.as_deref().unwrap_or_default().to_lowercase();
        FORWARD_SUBJECTS
            .iter()
            .any(|start| subject.starts_with(start))
    }
}

fn as_mime(raw: &[u8]) -> Result<Cow<'_, [u8]>, EmailError> {
    match is_outlook_message(raw) {
        true => to_mime(raw).map(Cow::Owned).ok_or(EmailError::NotAMessage),
        false => {
            Ok(decode_utf16(raw).map_or(Cow::Borrowed(raw), |text| Cow::Owned(text.into_bytes())))
        }
    }
}

fn check_size(raw: &[u8]) -> Result<(), EmailError> {
    if raw.trim_ascii().is_empty() {
        return Err(EmailError::Empty);
    }
    if raw.len() > EMAIL_BYTES_MAX {
        return Err(EmailError::TooLong {
            bytes: raw.len(),
            bytes_max: EMAIL_BYTES_MAX,
        });
    }
    Ok(())
}

fn read_headers(raw: &[u8]) -> Result<Headers, EmailError> {
    let message = MessageParser::default()
        .parse_headers(raw)
        .ok_or(EmailError::NotAMessage)?;
    // The MIME library takes a first line of prose for the name of an unknown header.
    if message
        .headers()
        .iter()
        .all(|header| matches!(header.name, HeaderName::Other(_)))
    {
        return Err(EmailError::NotAMessage);
    }
    let from = mailboxes(message.from()).into_iter().next();
    let subject = message.subject().and_then(header_text);
    Ok(Headers {
        message_id: message.message_id().and_then(header_text),
        in_reply_to: header_texts(message.in_reply_to()).into_iter().next(),
        references: header_texts(message.references()),
        sent_at_ms: message
            .date()
            .filter(|date| date.is_valid())
            .map(|date| date.to_timestamp() * 1000),
        to: mailboxes(message.to()),
        cc: mailboxes(message.cc()),
        kind: MailKind::of(&message, from.as_ref(), subject.as_deref()),
        subject,
        from,
    })
}

fn mailboxes(addresses: Option<&Address<'_>>) -> Vec<Mailbox> {
    let Some(addresses) = addresses else {
        return Vec::new();
    };
    let mailboxes = addresses.iter().filter_map(|entry| {
        Some(Mailbox {
            name: entry.name.as_deref().and_then(header_text),
            address: entry.address.as_deref().and_then(header_text)?,
        })
    });
    mailboxes.take(HEADER_ENTRIES_MAX).collect()
}

fn header_texts(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(text) => header_text(text).into_iter().collect(),
        HeaderValue::TextList(texts) => texts
            .iter()
            .filter_map(|text| header_text(text))
            .take(HEADER_ENTRIES_MAX)
            .collect(),
        _ => Vec::new(),
    }
}

/// A header value on one line; `None` if nothing is left.
fn header_text(text: &str) -> Option<String> {
    let text = crate::markup::collapse_whitespace(text);
    (!text.is_empty()).then_some(text)
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Headers")
            .field("sent_at_ms", &self.sent_at_ms)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Email")
            .field("sent_at_ms", &self.headers.sent_at_ms)
            .field("body", &Redacted(&self.body))
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Attachment")
            .field("media_type", &self.media_type)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mailbox")
            .field("address", &Redacted(&self.address))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "email_tests.rs"]
mod tests;
