//! Goal: messages of Outlook come out as their MIME twins would, built here from properties, and damaged ones as
//! errors.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};

use super::*;
use crate::email::{attached_documents, parse_email};

struct Builder(CompoundFile<Cursor<Vec<u8>>>);

impl Builder {
    fn new() -> Self {
        Self(CompoundFile::create(Cursor::new(Vec::new())).unwrap())
    }

    fn bytes(mut self, path: &str, content: &[u8]) -> Self {
        if let Some((folder, _)) = path
            .rsplit_once('/')
            .filter(|(folder, _)| !folder.is_empty())
        {
            let _ = self.0.create_storage(folder);
        }
        let mut stream = self.0.create_stream(path).unwrap();
        stream.write_all(content).unwrap();
        drop(stream);
        self
    }

    fn text(self, path: &str, text: &str) -> Self {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.bytes(path, &bytes)
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.flush().unwrap();
        self.0.into_inner().into_inner()
    }
}

fn property(id: u32, value: i64) -> Vec<u8> {
    [
        &id.to_le_bytes()[..],
        &6_u32.to_le_bytes(),
        &value.to_le_bytes(),
    ]
    .concat()
}

#[test]
fn properties_become_headers() {
    let sent = UNIX_EPOCH + 1_772_445_600 * 10_000_000;
    let raw = Builder::new()
        .text("/__substg1.0_0037001F", "Grüße\r\nBcc: x@example.com")
        .text("/__substg1.0_0C1A001F", "Dana \"D\" Wills")
        .text("/__substg1.0_0C1F001F", "dana@example.com")
        .text("/__substg1.0_1000001F", "Hello.\r\n\r\nBye.")
        .bytes(
            "/__properties_version1.0",
            &[vec![0; 32], property(SUBMIT_TIME, sent)].concat(),
        )
        .text("/__recip_version1.0_#00000000/__substg1.0_3001001F", "Ravi")
        .text(
            "/__recip_version1.0_#00000000/__substg1.0_39FE001F",
            "ravi@example.com",
        )
        .bytes(
            "/__recip_version1.0_#00000001/__properties_version1.0",
            &[vec![0; 8], property(RECIPIENT_TYPE, 2)].concat(),
        )
        .text(
            "/__recip_version1.0_#00000001/__substg1.0_3003001F",
            "mia@example.com",
        )
        .text(
            "/__attach_version1.0_#00000000/__substg1.0_3707001F",
            "prices für 2026.csv",
        )
        .bytes(
            "/__attach_version1.0_#00000000/__substg1.0_37010102",
            b"a,b\n",
        )
        .finish();
    let email = parse_email(&raw).unwrap();
    assert_eq!(
        email.headers.subject.as_deref(),
        Some("Grüße Bcc: x@example.com")
    );
    assert_eq!(email.headers.sent_at_ms, Some(1_772_445_600_000));
    let from = email.headers.from.as_ref().unwrap();
    assert_eq!(
        (from.name.as_deref(), from.address.as_str()),
        (Some("Dana D Wills"), "dana@example.com")
    );
    assert_eq!(email.headers.to[0].address, "ravi@example.com");
    assert_eq!(email.headers.cc[0].address, "mia@example.com");
    assert_eq!(email.body.trim(), "Hello.\n\nBye.");
    let attached = attached_documents(&raw).unwrap();
    assert_eq!(attached[0].file_name, "prices für 2026.csv");
    assert_eq!(attached[0].content, b"a,b\n");
}

#[test]
fn headers_of_transport_are_kept() {
    let raw = Builder::new()
        .text(
            "/__substg1.0_007D001F",
            "From: a@example.com\r\nContent-Type: multipart/mixed;\r\n\tboundary=x\r\nMessage-ID: <1@x>\r\nSubject: Old\r\n",
        )
        .bytes("/__substg1.0_10130102", "<p>Only <b>HTML</b></p>".as_bytes())
        .finish();
    let email = parse_email(&raw).unwrap();
    assert_eq!(email.headers.message_id.as_deref(), Some("1@x"));
    assert_eq!(email.body.trim(), "Only HTML");
}

/// Goal: what was never sent finds its thread, and strings of old files are in the code page that they name.
#[test]
fn threads_and_code_pages() {
    let (subject, _, _) = encoding_rs::WINDOWS_1251.encode("Цена насоса");
    let (body, _, _) = encoding_rs::SHIFT_JIS.encode("<p>見積書を送ります。</p>");
    let pages = [
        vec![0; 32],
        property(STRING_CODE_PAGE, 1251),
        property(HTML_CODE_PAGE, 932),
    ];
    let raw = Builder::new()
        .bytes("/__properties_version1.0", &pages.concat())
        .bytes("/__substg1.0_0037001E", &[&subject[..], b"\0"].concat())
        .bytes("/__substg1.0_10130102", &body)
        .text("/__substg1.0_1035001F", "<3@x>")
        .text("/__substg1.0_1042001F", "<2@x>")
        .text("/__substg1.0_1039001F", "<1@x>\r\n <2@x>")
        .finish();
    let email = parse_email(&raw).unwrap();
    assert_eq!(email.headers.subject.as_deref(), Some("Цена насоса"));
    assert_eq!(email.body.trim(), "見積書を送ります。");
    assert_eq!(email.headers.message_id.as_deref(), Some("3@x"));
    assert_eq!(email.headers.references, ["1@x", "2@x"]);
    assert_eq!(email.headers.in_reply_to.as_deref(), Some("2@x"));
}

#[test]
fn damaged_files_are_refused() {
    let whole = Builder::new().text("/__substg1.0_0037001F", "x").finish();
    assert_eq!(parse_email(&whole).unwrap().segments, []);
    for length in [8, 100, 512, whole.len() / 2] {
        assert!(parse_email(&whole[..length]).is_err());
    }
}

/// Goal: real files, read in place beside the checkout, come out with sender, subject, text and attachment; cut or
/// changed anywhere they end in an error or a text.
#[test]
fn real_messages() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/mime_mail/unstructured"
    );
    let read = |name: &str| std::fs::read(format!("{folder}/{name}"));
    let Ok(raw) = read("fake-email.msg") else {
        eprintln!("skipped: real messages are not at {folder}");
        return;
    };
    let email = parse_email(&raw).unwrap();
    assert_eq!(email.headers.subject.as_deref(), Some("Test Email"));
    assert_eq!(
        email.headers.from.unwrap().address,
        "mrobinson@unstructured.io"
    );
    assert!(
        email
            .body
            .starts_with("This is a test email to use for unit tests.")
    );
    assert_eq!(email.headers.sent_at_ms, Some(1_671_228_256_000));
    let with_file = read("fake-email-attachment.msg").unwrap();
    assert!(parse_email(&with_file).unwrap().body.starts_with("Hello!"));
    let attached = attached_documents(&with_file).unwrap();
    assert_eq!(attached[0].file_name, "fake-attachment.txt");
    assert!(!attached[0].content.is_empty());
    let copied = parse_email(&read("fake-email-with-cc-and-bcc.msg").unwrap()).unwrap();
    assert_eq!(
        copied.headers.subject.as_deref(),
        Some("Fake email with cc and bcc recipients")
    );
    let encrypted = parse_email(&read("fake-encrypted.msg").unwrap());
    assert_eq!(encrypted.unwrap().segments, []);
    for part in 1..40 {
        let _ = parse_email(&with_file[..with_file.len() * part / 40]);
    }
    for place in (0..with_file.len()).step_by(7) {
        let mut changed = with_file.clone();
        changed[place] = changed[place].wrapping_add(1 + place as u8 % 200);
        let _ = attached_documents(&changed);
    }
}
