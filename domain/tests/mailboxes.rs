//! Real mails and calls, read in place beside the checkout: what is found in each, compared with what others found.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use domain::Part;
use domain::email::{EmailError, Mailbox, parse_email};
use domain::transcript::{FormatChoice, parse_transcript};
use serde_json::Value;

fn shared(name: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(name);
    if !dir.is_dir() {
        println!("skipped: {name}: no shared/data/{name}");
        return None;
    }
    Some(dir)
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Goal: subject, senders and addressees of every message are those that Stalwart's own tests expect.
#[test]
fn stalwart_messages() {
    let Some(dir) = shared("mime_mail/stalwart") else {
        return;
    };
    let (mut compared, mut refused) = (0, 0);
    for expected in files(&dir, "json") {
        let message = ["eml", "txt"]
            .map(|ending| expected.with_extension(ending))
            .into_iter()
            .find(|path| path.is_file());
        let Some(message) = message else {
            continue;
        };
        let email = match parse_email(&fs::read(&message).unwrap()) {
            Ok(email) => email,
            Err(error) => {
                println!("{message:?}: {error}");
                refused += 1;
                continue;
            }
        };
        let expected: Value =
            serde_json::from_str(&fs::read_to_string(&expected).unwrap()).unwrap();
        let headers = expected["parts"][0]["headers"].as_array().unwrap();
        let last = |name: &str| headers.iter().rev().find(|header| header["name"] == name);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let subject = last("subject")
            .and_then(|header| header["value"]["Text"].as_str())
            .map(words);
        assert_eq!(
            email.headers.subject,
            subject.filter(|text| !text.is_empty()),
            "{message:?}"
        );
        let addresses = |name: &str| {
            let mut addresses: Vec<String> = Vec::new();
            if let Some(header) = last(name) {
                collect_addresses(&header["value"], &mut addresses);
            }
            addresses
        };
        let found = |mailboxes: &[Mailbox]| -> Vec<String> {
            let mailboxes = mailboxes.iter();
            mailboxes.map(|mailbox| mailbox.address.clone()).collect()
        };
        let headers = &email.headers;
        assert_eq!(found(&headers.to), addresses("to"), "{message:?}");
        assert_eq!(found(&headers.cc), addresses("cc"), "{message:?}");
        let from = headers.from.iter().map(|from| from.address.clone()).next();
        assert_eq!(from, addresses("from").into_iter().next(), "{message:?}");
        compared += 1;
    }
    println!("measured: {compared} messages of Stalwart as expected, {refused} refused");
    assert!(compared >= 40 && refused == 0);
}

fn collect_addresses(value: &Value, addresses: &mut Vec<String>) {
    match value {
        Value::Object(fields) => match fields.get("address") {
            Some(address) => {
                let words = address.as_str().unwrap_or_default().split_whitespace();
                let address = words.collect::<Vec<_>>().join(" ");
                addresses.extend((!address.is_empty()).then_some(address));
            }
            None => fields
                .values()
                .for_each(|value| collect_addresses(value, addresses)),
        },
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_addresses(value, addresses)),
        _ => {}
    }
}

/// Goal: every message of two mailboxes of a seller is read, with its sender and time, and all its characters are in
/// some part.
#[test]
fn enron_mailboxes() {
    let Some(dir) = shared("enron_mbox") else {
        return;
    };
    let (mut messages, mut quoting, mut signed, mut without_new) = (0, 0, 0, 0);
    for path in files(&dir, "mbox") {
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for message in text
            .split("\nFrom MAILER-DAEMON ")
            .map(|message| message.split_once('\n').unwrap().1)
        {
            let email =
                parse_email(message.as_bytes()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(
                email.headers.from.is_some() && email.headers.sent_at_ms.is_some(),
                "{path:?}"
            );
            let has = |part| email.segments.iter().any(|segment| segment.part == part);
            messages += 1;
            quoting += usize::from(has(Part::Quoted));
            signed += usize::from(has(Part::Signature));
            without_new += usize::from(!email.segments.is_empty() && !has(Part::Body));
            // Control characters go.
            let is_kept = |character: &char| !character.is_whitespace() && !character.is_control();
            let words = |text: &str| text.chars().filter(is_kept).count();
            let in_segments: usize = email
                .segments
                .iter()
                .map(|segment| words(&segment.content))
                .sum();
            assert_eq!(in_segments, words(&email.body), "{path:?}");
        }
    }
    println!(
        "measured: {messages} mails of Enron: {quoting} quote, {signed} are signed, {without_new} have nothing new"
    );
    assert_eq!(messages, 1_835);
    assert!(without_new * 20 < messages);
}

/// Goal: earnings calls of an hour keep every speaker and every word.
#[test]
fn earnings_calls() {
    let Some(dir) = shared("earnings21/reference_nlp") else {
        return;
    };
    let (mut calls, mut words) = (0, 0);
    for path in files(&dir, "nlp") {
        let text = fs::read_to_string(&path).unwrap();
        let mut transcript = String::new();
        let (mut speakers, mut tokens, mut last) = (BTreeSet::new(), 0, "");
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split('|').collect();
            let (token, speaker, punctuation) = (fields[0], fields[1], fields[4]);
            if speaker != last {
                transcript.push_str(&format!("\nSpeaker {speaker}:"));
                last = speaker;
            }
            transcript.push_str(&format!(" {token}{punctuation}"));
            speakers.insert(speaker);
            tokens += token.split_whitespace().count();
        }
        let parsed = parse_transcript(&transcript, FormatChoice::Auto).unwrap();
        assert_eq!(parsed.speakers().len(), speakers.len(), "{path:?}");
        let found: usize = parsed
            .segments
            .iter()
            .map(|segment| segment.content.split_whitespace().count())
            .sum();
        assert_eq!(found, tokens, "{path:?}");
        calls += 1;
        words += found;
    }
    println!("measured: {calls} earnings calls with {words} words");
    assert_eq!(calls, 8);
}

/// Goal: what a speech recogniser made of the same calls, words with times and no full stop, as the captions of ten words
/// that a meeting program would write: every word at its time.
#[test]
fn recognised_earnings_calls() {
    let Some(dir) = shared("earnings21/asr_rev_kaldi_timed") else {
        return;
    };
    let (mut calls, mut words) = (0, 0);
    for path in files(&dir, "nlp") {
        let text = fs::read_to_string(&path).unwrap();
        let tokens: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|line| line.split('|').collect())
            .collect();
        let seconds = |field: &str| field.parse::<f64>().unwrap();
        let time = |seconds: f64| {
            let (minutes, seconds) = (seconds as u32 / 60, seconds % 60.0);
            format!("{:02}:{:02}:{seconds:06.3}", minutes / 60, minutes % 60)
        };
        let mut captions = String::from("WEBVTT\n");
        for caption in tokens.chunks(10) {
            let (start, end) = (
                seconds(caption[0][2]),
                seconds(caption[caption.len() - 1][3]),
            );
            let said: Vec<&str> = caption.iter().map(|token| token[0]).collect();
            let (start, end) = (time(start), time(end));
            captions.push_str(&format!(
                "\n{start} --> {end}\nHost: {}\n",
                said.join(" ").replace('<', "&lt;")
            ));
        }
        let parsed = parse_transcript(&captions, FormatChoice::Auto).unwrap();
        assert_eq!(
            (parsed.speakers().len(), parsed.turn_count()),
            (1, 1),
            "{path:?}"
        );
        let said: Vec<&str> = (parsed.segments.iter())
            .flat_map(|segment| segment.content.split_whitespace())
            .collect();
        let spoken: Vec<&str> = tokens
            .iter()
            .flat_map(|token| token[0].split_whitespace())
            .collect();
        assert!(said == spoken, "{path:?}");
        for (segment, caption) in parsed.segments.iter().zip(tokens.chunks(10)) {
            let start_ms = (seconds(caption[0][2]) * 1000.0).round() as i64;
            assert!(
                segment
                    .start_ms
                    .is_some_and(|ms| ms.abs_diff(start_ms) <= 1),
                "{path:?}"
            );
        }
        calls += 1;
        words += said.len();
    }
    println!("measured: {calls} recognised earnings calls with {words} words");
    assert_eq!(calls, 8);
}

/// Goal: every message that unstructured tests its own reader with is read as it should be, or refused with the right
/// reason.
#[test]
fn unstructured_messages() {
    let Some(dir) = shared("mime_mail/unstructured") else {
        return;
    };
    let refused = BTreeMap::from([
        ("empty.eml", EmailError::Empty),
        ("fake-encrypted.eml", EmailError::Encrypted),
    ]);
    // Subjects, senders, addressees and where the text begins, of those that have something special.
    let special = BTreeMap::from([
        (
            "email-no-utf8-2008-07-16.062410.eml",
            ("RE: שלום", "eryzxx@post.tau.ac.il", 1, "סלבה היקר,"),
        ),
        (
            "email-replace-mime-encodings-error-4.eml",
            (
                "Intellectual Property Protection for startups",
                "email@domain.com",
                1,
                "Protect your startup\n\nDear webpage\u{a0} team,\n\nHi! I’m ",
            ),
        ),
        ("fake-email-utf-16.eml", TEST_EMAIL),
        ("fake-email-utf-16-be.eml", TEST_EMAIL),
        ("fake-email-utf-16-le.eml", TEST_EMAIL),
        ("fake-email-b64.eml", TEST_EMAIL),
        ("fake-email-malformed-encoding.eml", TEST_EMAIL),
        ("fake-email.msg", TEST_EMAIL),
        (
            "fake-email-with-cc-and-bcc.msg",
            (
                "Fake email with cc and bcc recipients",
                "johnjennings702@gmail.com",
                1,
                "This is a test email. Please ignore.",
            ),
        ),
        (
            "mime-different-plain-html.eml",
            (
                "Example MIME Email",
                "sender@example.com",
                1,
                "This is the text/plain part.",
            ),
        ),
        (
            "mime-html-only.eml",
            (
                "Example HTML Only MIME Email",
                "sender@example.com",
                1,
                "This is a text/html part.",
            ),
        ),
        (
            "mime-multi-to-cc-bcc.eml",
            (
                "Example Plain-Text MIME Message",
                "sender@example.com",
                2,
                "This is a plain-text message.",
            ),
        ),
        (
            "mime-multipart-digest.eml",
            (
                "Example Multipart Digest Email",
                "alice@example.com",
                1,
                "---------- Forwarded message ----------\nFrom: ",
            ),
        ),
        (
            "mime-no-subject.eml",
            (
                "",
                "sender@example.com",
                1,
                "This is a simple email message without a subject.",
            ),
        ),
        (
            "mime-no-to.eml",
            (
                "Example Plain-Text MIME Message",
                "sender@example.com",
                0,
                "This is a plain-text message.",
            ),
        ),
        (
            "mime-word-encoded-subject.eml",
            (
                "Simple email with ☸☿ Unicode subject",
                "sender@example.com",
                1,
                "This is a simple email message",
            ),
        ),
    ]);
    // A picture and an encrypted file.
    let without_text = ["mime-no-body.eml", "fake-encrypted.msg"];
    let (mut read, mut compared) = (0, 0);
    let paths = ["eml", "msg", "txt"].map(|ending| files(&dir, ending));
    for path in paths.into_iter().flatten() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let email = match parse_email(&fs::read(&path).unwrap()) {
            Ok(email) => email,
            Err(error) => {
                assert_eq!(Some(&error), refused.get(name.as_str()), "{name}");
                compared += 1;
                continue;
            }
        };
        read += 1;
        assert_eq!(
            email.segments.is_empty(),
            without_text.contains(&name.as_str()),
            "{name}"
        );
        let Some((subject, sender, addressees, start)) = special.get(name.as_str()) else {
            continue;
        };
        compared += 1;
        let headers = &email.headers;
        assert_eq!(
            headers.subject.as_deref().unwrap_or_default(),
            *subject,
            "{name}"
        );
        assert_eq!(
            headers.from.as_ref().map(|from| from.address.as_str()),
            Some(*sender),
            "{name}"
        );
        assert_eq!(headers.to.len(), *addressees, "{name}");
        assert!(
            email.body.starts_with(start),
            "{name}: {:?}",
            email.body.chars().take(80).collect::<String>()
        );
    }
    println!("measured: {read} messages of unstructured are read");
    assert_eq!(compared, special.len() + refused.len());
}

const TEST_EMAIL: (&str, &str, usize, &str) = (
    "Test Email",
    "mrobinson@unstructured.io",
    1,
    "This is a test email to use for unit tests.",
);
