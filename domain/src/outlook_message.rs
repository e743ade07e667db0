//! Outlook's `.msg` files (MS-OXMSG) as MIME messages, so that one parser reads both.

use std::fmt::Write as _;
use std::io::{Cursor, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfb::CompoundFile;

use crate::text_encoding::decode_text;

/// What compound files begin with (MS-CFB, 2.2).
const SIGNATURE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// Recipients and attachments that are looked at.
const PARTS_MAX: usize = 1000;
/// Between 1601 and 1970 (FILETIME), in 100 ns.
const UNIX_EPOCH: i64 = 116_444_736_000_000_000;

// Properties (MS-OXPROPS) by the id and type that name their stream.
const SUBJECT: &str = "0037";
const HEADERS: &str = "007D";
const SENDER_NAME: &str = "0C1A";
const SENDER_ADDRESS: [&str; 2] = ["5D01", "0C1F"];
const BODY: &str = "1000";
const BODY_HTML: &str = "1013";
const DISPLAY_NAME: &str = "3001";
const ADDRESS: [&str; 2] = ["39FE", "3003"];
const FILE_NAME: [&str; 2] = ["3707", "3704"];
const MEDIA_TYPE: &str = "370E";
const CONTENT: &str = "37010102";
const SUBMIT_TIME: u32 = 0x0039_0040;
const DELIVERY_TIME: u32 = 0x0e06_0040;
const RECIPIENT_TYPE: u32 = 0x0c15_0003;
/// Of strings that are not in UTF-16, and of HTML.
const STRING_CODE_PAGE: u32 = 0x3ffd_0003;
const HTML_CODE_PAGE: u32 = 0x3fde_0003;
/// Headers by which mails find their thread.
const THREAD_HEADERS: [(&str, &str); 3] = [
    ("Message-ID", "1035"),
    ("In-Reply-To", "1042"),
    ("References", "1039"),
];
/// Bytes before the fixed properties of a message, a recipient and an attachment (MS-OXMSG, 2.4).
const MESSAGE_HEADER: usize = 32;
const RECIPIENT_HEADER: usize = 8;

/// Whether a message is of this kind.
pub(crate) fn is_outlook_message(raw: &[u8]) -> bool {
    raw.starts_with(&SIGNATURE)
}

/// The message as MIME; None when it is damaged.
pub(crate) fn to_mime(raw: &[u8]) -> Option<Vec<u8>> {
    let mut file = Message::open(raw)?;
    let mut mime = match file.text("", HEADERS) {
        Some(headers) if headers.contains(':') => without_content(&headers),
        _ => file.headers(),
    };
    let parts = file.parts();
    let boundary = boundary(&parts);
    let _ = write!(
        mime,
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n"
    );
    for part in parts {
        let _ = write!(mime, "--{boundary}\r\n{part}\r\n");
    }
    let _ = write!(mime, "--{boundary}--\r\n");
    Some(mime.into_bytes())
}

/// Headers of transport without those that describe what the message was made of before.
fn without_content(headers: &str) -> String {
    let mut kept = String::with_capacity(headers.len());
    let mut is_kept = true;
    for line in headers.lines().take_while(|line| !line.is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            is_kept = !name.starts_with("content-") && name != "mime-version";
        }
        if is_kept {
            kept.push_str(line);
            kept.push_str("\r\n");
        }
    }
    kept
}

/// A border that no part has.
fn boundary(parts: &[String]) -> String {
    let is_free = |boundary: &String| !parts.iter().any(|part| part.contains(boundary));
    let mut candidates = (0..).map(|number| format!("=_part_{number}_="));
    candidates.find(is_free).unwrap_or_default()
}

struct Message<'a> {
    file: CompoundFile<Cursor<&'a [u8]>>,
    /// Encoding of strings that are not in UTF-16, by its label.
    string_label: Option<String>,
}

impl<'a> Message<'a> {
    fn open(raw: &'a [u8]) -> Option<Self> {
        let file = CompoundFile::open(Cursor::new(raw)).ok()?;
        let mut message = Self {
            file,
            string_label: None,
        };
        message.string_label = message.encoding(STRING_CODE_PAGE);
        Some(message)
    }

    fn encoding(&mut self, property: u32) -> Option<String> {
        self.number("", MESSAGE_HEADER, property)
            .and_then(encoding_label)
    }

    /// Headers from properties, of a message that was never sent or has lost its own.
    fn headers(&mut self) -> String {
        let mut headers = String::new();
        let name = self.text("", SENDER_NAME);
        if let Some(address) = self.first_text("", SENDER_ADDRESS) {
            let _ = write!(headers, "From: {}\r\n", mailbox(name.as_deref(), &address));
        }
        for folder in self.folders("__recip_version1.0_#") {
            let name = self.text(&folder, DISPLAY_NAME);
            let kind = match self.number(&folder, RECIPIENT_HEADER, RECIPIENT_TYPE) {
                Some(1) | None => "To",
                Some(2) => "Cc",
                Some(_) => continue,
            };
            if let Some(address) = self.first_text(&folder, ADDRESS) {
                let _ = write!(
                    headers,
                    "{kind}: {}\r\n",
                    mailbox(name.as_deref(), &address)
                );
            }
        }
        if let Some(subject) = self.text("", SUBJECT) {
            let _ = write!(headers, "Subject: {}\r\n", one_line(&subject));
        }
        let sent = self
            .number("", MESSAGE_HEADER, SUBMIT_TIME)
            .or_else(|| self.number("", MESSAGE_HEADER, DELIVERY_TIME));
        if let Some(sent) = sent {
            let date = mail_parser::DateTime::from_timestamp((sent - UNIX_EPOCH) / 10_000_000);
            let _ = write!(headers, "Date: {}\r\n", date.to_rfc822());
        }
        for (name, id) in THREAD_HEADERS {
            if let Some(ids) = self.text("", id) {
                let _ = write!(headers, "{name}: {}\r\n", one_line(&ids));
            }
        }
        headers
    }

    /// The text, then the attachments.
    fn parts(&mut self) -> Vec<String> {
        let mut parts = Vec::new();
        match self.text("", BODY).filter(|body| !body.trim().is_empty()) {
            Some(body) => parts.push(part("text/plain; charset=utf-8", None, body.as_bytes())),
            None => {
                let body = self.html().unwrap_or_default();
                parts.push(part("text/html; charset=utf-8", None, body.as_bytes()));
            }
        }
        for folder in self.folders("__attach_version1.0_#") {
            let name = self.first_text(&folder, FILE_NAME);
            let content = self.bytes(&folder, CONTENT);
            if let (Some(name), Some(content)) = (name, content) {
                let media_type = self.text(&folder, MEDIA_TYPE).map(|kind| one_line(&kind));
                let media_type = media_type.filter(|kind| kind.split('/').count() == 2);
                let media_type =
                    media_type.unwrap_or_else(|| "application/octet-stream".to_owned());
                parts.push(part(&media_type, Some(&name), &content));
            }
        }
        parts
    }

    /// Storages of this kind, in their order.
    fn folders(&self, prefix: &str) -> Vec<String> {
        let entries = self.file.read_root_storage();
        let names = entries.map(|entry| entry.name().to_owned());
        let mut folders: Vec<String> = names
            .filter(|name| name.starts_with(prefix))
            .take(PARTS_MAX)
            .collect();
        folders.sort();
        folders
    }

    fn first_text<const N: usize>(&mut self, folder: &str, ids: [&str; N]) -> Option<String> {
        let mut texts = ids.into_iter().filter_map(|id| self.text(folder, id));
        texts.find(|text| !text.trim().is_empty())
    }

    /// A property in UTF-16, or in the message's code page.
    fn text(&mut self, folder: &str, id: &str) -> Option<String> {
        if let Some(bytes) = self.bytes(folder, &format!("{id}001F")) {
            let (units, _) = bytes.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            return Some(String::from_utf16_lossy(&units).replace('\0', ""));
        }
        let mut bytes = self.bytes(folder, &format!("{id}001E"))?;
        bytes.retain(|byte| *byte != 0);
        decode_text(&bytes, self.string_label.as_deref())
    }

    fn html(&mut self) -> Option<String> {
        let Some(mut bytes) = self.bytes("", &format!("{BODY_HTML}0102")) else {
            return self.text("", BODY_HTML);
        };
        bytes.retain(|byte| *byte != 0);
        let label = self.encoding(HTML_CODE_PAGE);
        decode_text(&bytes, label.as_deref())
    }

    fn bytes(&mut self, folder: &str, property: &str) -> Option<Vec<u8>> {
        self.stream(&format!("/{folder}/__substg1.0_{property}"))
    }

    /// A number of the fixed properties, which lie behind a header of so many bytes (MS-OXMSG, 2.4).
    fn number(&mut self, folder: &str, header: usize, property: u32) -> Option<i64> {
        let stream = self.stream(&format!("/{folder}/__properties_version1.0"))?;
        let (entries, _) = stream.get(header..)?.as_chunks::<16>();
        let entry = entries
            .iter()
            .find(|entry| entry[..4] == property.to_le_bytes())?;
        let value = i64::from_le_bytes(entry[8..].try_into().ok()?);
        // Of a number of 32 bits the other half is not defined.
        Some(if property & 0xffff == 3 {
            value & 0xffff_ffff
        } else {
            value
        })
    }

    fn stream(&mut self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let path = path.replace("//", "/");
        self.file
            .open_stream(path)
            .ok()?
            .read_to_end(&mut bytes)
            .ok()?;
        Some(bytes)
    }
}

/// The label (WHATWG Encoding, 4.2) of a code page of Windows; None where the text has to be guessed.
fn encoding_label(code_page: i64) -> Option<String> {
    let label = match code_page {
        874 | 1250..=1258 => return Some(format!("windows-{code_page}")),
        28592..=28606 => return Some(format!("iso-8859-{}", code_page - 28590)),
        866 => "ibm866",
        932 => "shift_jis",
        936 | 54936 => "gb18030",
        949 => "euc-kr",
        950 => "big5",
        20866 => "koi8-r",
        21866 => "koi8-u",
        28591 => "windows-1252",
        51932 => "euc-jp",
        _ => return None,
    };
    Some(label.to_owned())
}

/// A part of a message, its content in base64.
fn part(media_type: &str, file_name: Option<&str>, content: &[u8]) -> String {
    let mut part = format!("Content-Type: {media_type}\r\nContent-Transfer-Encoding: base64\r\n");
    if let Some(name) = file_name {
        // RFC 2231, with every byte that could mean something else in hex.
        part.push_str("Content-Disposition: attachment; filename*=utf-8''");
        for byte in name.trim().bytes() {
            let _ = match byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
                true => write!(part, "{}", char::from(byte)),
                false => write!(part, "%{byte:02X}"),
            };
        }
        part.push_str("\r\n");
    }
    part.push_str("\r\n");
    for line in STANDARD.encode(content).as_bytes().chunks(76) {
        part.push_str(std::str::from_utf8(line).unwrap_or_default());
        part.push_str("\r\n");
    }
    part
}

fn mailbox(name: Option<&str>, address: &str) -> String {
    let name = one_line(name.unwrap_or_default()).replace(['"', '\\'], "");
    let address = one_line(address).replace(['<', '>'], "");
    match name.is_empty() || name == address {
        true => format!("<{address}>"),
        false => format!("\"{name}\" <{address}>"),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "outlook_message_tests.rs"]
mod tests;
