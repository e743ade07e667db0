#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{
    EMAIL_BYTES_MAX, EmailError, MailKind, Mailbox, attached_documents, parse_email, parse_headers,
};
use crate::mail_parts::Sender;
use crate::segment::Part;
use crate::test_random::Random;

fn check_error(raw: &[u8], expected: EmailError) {
    assert_eq!(parse_email(raw), Err(expected));
}

fn check_no_text(raw: &[u8]) {
    assert_eq!(parse_email(raw).unwrap().segments, []);
}

/// Goal: headers are decoded, the body is text with exact ranges, the sender speaks.
#[test]
fn plain_message() {
    let raw = "Message-ID: <b@acme.example>\r\nIn-Reply-To: <a@acme.example>\r\n\
               References: <z@acme.example> <a@acme.example>\r\n\
               Subject: =?utf-8?q?Price_f=C3=BCr?= Acme\r\nDate: Thu, 2 Apr 2026 10:00:00 +0200\r\n\
               From: =?utf-8?q?J=C3=BCrgen?= <j@acme.example>\r\nTo: A <a@b.example>, c@d.example\r\n\
               Cc: Team: e@f.example, \"G, H\" <g@h.example>;\r\n\
               Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
               Hall=C3=B6chen,\r\n\r\nthe price=\r\n is 15%.=00\r\n";
    let email = parse_email(raw.as_bytes()).unwrap();
    let mailbox = |name: Option<&str>, address: &str| Mailbox {
        name: name.map(str::to_owned),
        address: address.to_owned(),
    };
    assert_eq!(email.headers.message_id.as_deref(), Some("b@acme.example"));
    assert_eq!(email.headers.in_reply_to.as_deref(), Some("a@acme.example"));
    assert_eq!(
        email.headers.references,
        ["z@acme.example", "a@acme.example"]
    );
    assert_eq!(email.headers.subject.as_deref(), Some("Price für Acme"));
    assert_eq!(email.headers.sent_at_ms, Some(1_775_116_800_000));
    assert_eq!(
        email.headers.from,
        Some(mailbox(Some("Jürgen"), "j@acme.example"))
    );
    assert_eq!(
        email.headers.to,
        [
            mailbox(Some("A"), "a@b.example"),
            mailbox(None, "c@d.example")
        ]
    );
    assert_eq!(
        email.headers.cc,
        [
            mailbox(None, "e@f.example"),
            mailbox(Some("G, H"), "g@h.example")
        ]
    );
    assert_eq!(email.body, "Hallöchen,\n\nthe price is 15%.\n");
    let found: Vec<_> = email
        .segments
        .iter()
        .map(|s| {
            (
                s.speaker.as_deref(),
                s.start_char,
                s.end_char,
                s.content.as_str(),
            )
        })
        .collect();
    let speaker = Some("Jürgen");
    assert_eq!(
        found,
        [
            (speaker, 0, 10, "Hallöchen,"),
            (speaker, 12, 29, "the price is 15%.")
        ]
    );
}

/// Goal: an HTML-only body becomes text; where there is plain text, that is taken.
#[test]
fn html_bodies() {
    let html = "From: a@b.example\nContent-Type: text/html\n\n<p>One</p><p>Two &amp; three</p>";
    assert_eq!(
        parse_email(html.as_bytes()).unwrap().body,
        "One\n\nTwo & three"
    );
    let both = "From: a@b.example\nContent-Type: multipart/alternative; boundary=x\n\n\
                --x\nContent-Type: text/plain\n\nplain\n--x\nContent-Type: text/html\n\n<b>html</b>\n--x--\n";
    let email = parse_email(both.as_bytes()).unwrap();
    assert_eq!(email.body.trim(), "plain");
    assert_eq!(email.segments[0].speaker.as_deref(), Some("a@b.example"));
}

/// Goal: what is no message is refused; one without text has no segments.
#[test]
fn refused_messages() {
    check_error(b"", EmailError::Empty);
    check_error(b" \r\n\t", EmailError::Empty);
    check_error(b"just words and no header", EmailError::NotAMessage);
    check_no_text(b"From: a@b.example\n\n \n");
    check_no_text(
        b"From: a@b.example\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA",
    );
    let long = vec![b'a'; EMAIL_BYTES_MAX + 1];
    check_error(
        &long,
        EmailError::TooLong {
            bytes: long.len(),
            bytes_max: EMAIL_BYTES_MAX,
        },
    );
}

/// Goal: neither deep nesting nor endless parts overflow the stack or run for long.
#[test]
fn hostile_messages_are_bounded() {
    for unit in [
        "Content-Type: message/rfc822\n\n",
        "Content-Type: multipart/mixed; boundary=a\n\n--a\n",
        "Content-Type: multipart/mixed; boundary=z\n\n--a\n",
        "Content-Type: multipart/digest; boundary=a\n\n--a\n\n",
        "--a\n\n",
        "Subject: =?utf-8?q?",
        "To: \"",
        "To: (((",
        "References: <",
        "a: b\n",
        "<style>",
    ] {
        for head in [
            "From: a@b.example\n",
            "Content-Type: multipart/mixed; boundary=a\n\n--a\n",
        ] {
            let raw = format!("{head}{}", unit.repeat(2 * 1024 * 1024 / unit.len()));
            let start = Instant::now();
            let _ = parse_email(raw.as_bytes());
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{unit:?}: {:?}",
                start.elapsed()
            );
        }
    }
}

/// Goal: messages attached inside an encoded message, however deep, cannot overflow the stack.
#[test]
fn encoded_nesting_is_not_followed() {
    // "Content-Type: message/rfc822\n\n" has 30 bytes, so that its base64 repeats without padding.
    let level = "Q29udGVudC1UeXBlOiBtZXNzYWdlL3JmYzgyMgoK\n";
    let attachment = "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n";
    let levels = level.repeat(500_000);
    let raw = format!(
        "From: a@b.example\nContent-Type: multipart/mixed; boundary=x\n\n\
         --x\n\nHello\n--x\n{attachment}{levels}--x--\n"
    );
    assert_eq!(parse_email(raw.as_bytes()).unwrap().body.trim(), "Hello");
    let raw = format!("From: a@b.example\n{attachment}{levels}");
    check_no_text(raw.as_bytes());
}

/// Goal: attachments are not read, inline parts are, and a multipart without borders is read as it is.
#[test]
fn parts_of_a_message() {
    let raw = "From: a@b.example\nContent-Type: multipart/mixed; boundary=\"x y\"\n\nlost\n--x y\n\
               Content-Type: multipart/alternative; boundary=z\n\n--z\nContent-Type: text/html\n\n<b>h</b>\n--z--\n\
               --x y\nContent-Type: text/plain; name=a.txt\n\nfile\n--x y \n\
               Content-Disposition: attachment\n\nfile\n--x yz\n--x y\n\ninline\n--x y--\nlost\n";
    assert_eq!(
        parse_email(raw.as_bytes()).unwrap().body.trim(),
        "h\n\n\ninline"
    );
    let raw = "From: a@b.example\nContent-Type: multipart/mixed; boundary=x\n\nno border";
    assert_eq!(
        parse_email(raw.as_bytes()).unwrap().body.trim(),
        "no border"
    );
}

/// Goal: no real or deliberately broken message makes the parser panic.
#[test]
fn real_messages_do_not_panic() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/mime_mail/stalwart"
    ));
    if !folder.is_dir() {
        eprintln!("skipped: real messages are not at {}", folder.display());
        return;
    }
    let files = message_files(folder);
    let mut read_count = 0;
    let mut random = Random::new(1);
    let mut random = |limit| random.below(limit);
    for file in &files {
        let raw = std::fs::read(file).unwrap();
        read_count += usize::from(parse_email(&raw).is_ok());
        // Cutting a message at any place, or changing bytes of it, must do no harm either.
        for part in 1..20 {
            let _ = parse_email(&raw[..raw.len() * part / 20]);
            let _ = parse_email(&raw[raw.len() * part / 20..]);
        }
        for _ in 0..100 {
            let mut changed = raw.clone();
            for _ in 0..5 {
                let byte = b"\n\r-=: ;\0<\xff"[random(10)];
                changed[random(raw.len())] = byte;
            }
            let _ = parse_email(&changed);
        }
    }
    assert!(
        read_count * 10 > files.len() * 7,
        "{read_count} of {} read",
        files.len()
    );
}

fn message_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(message_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "eml") {
            files.push(path);
        }
    }
    files
}

/// Goal: documents come with their names and bytes, also those of an attached message, whose text is read; other files do
/// not.
#[test]
fn documents_are_found_among_attachments() {
    let message = "From: a@example.com\r\nSubject: offer\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nSee the offer.\r\n\
        --b\r\nContent-Type: application/pdf; name=offer.PDF\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename=offer.PDF\r\n\r\nJVBERi0xLjc=\r\n\
        --b\r\nContent-Type: image/png; name=logo.png\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename=logo.png\r\n\r\nAAAA\r\n\
        --b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n\
        --c\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"seats 1.csv\"\r\n\r\n\
        a,b\r\n\
        --c\r\nContent-Type: message/rfc822; name=other.txt\r\nContent-Disposition: attachment; filename=other.txt\r\n\r\n\
        From: bob@example.com\r\nSubject: =?utf-8?Q?x_=C3=A9?=\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n\
        --d\r\n\r\nThe price is 5.\r\n\
        --d\r\nContent-Type: text/html; name=p.html\r\nContent-Disposition: attachment; filename=p.html\r\n\r\n5\r\n\
        --d--\r\n--c--\r\n--b--\r\n";
    let found = attached_documents(message.as_bytes()).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|file| {
            (
                file.file_name.as_str(),
                file.media_type.as_str(),
                file.content.trim_ascii(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("offer.PDF", "application/pdf", b"%PDF-1.7".as_slice()),
            ("seats 1.csv", "text/csv", b"a,b"),
            ("p.html", "text/html", b"5"),
        ]
    );
    let email = parse_email(message.as_bytes()).unwrap();
    let said: Vec<_> = email
        .segments
        .iter()
        .map(|segment| (segment.content.as_str(), segment.part))
        .collect();
    assert_eq!(
        said,
        [
            ("See the offer.", Part::Body),
            (
                "---------- Forwarded message ---------- From: bob@example.com Subject: x é",
                Part::Body
            ),
            ("The price is 5.", Part::Body),
        ]
    );
}

/// Goal: automatic answers and bounces are told from mails of persons, whatever language they are in.
#[test]
fn kinds_of_mail() {
    let kind = |headers: &str| {
        let raw = format!("From: Ana <a@b.example>\n{headers}\n\nHello\n");
        parse_headers(raw.as_bytes()).unwrap().kind
    };
    for (headers, expected) in [
        ("Subject: Hi", MailKind::Personal),
        ("Auto-Submitted: no", MailKind::Personal),
        ("Auto-Submitted: auto-replied", MailKind::AutoReply),
        (
            "Auto-Submitted: auto-generated (ticket)",
            MailKind::AutoReply,
        ),
        ("X-Autoreply: yes", MailKind::AutoReply),
        ("Precedence: auto_reply", MailKind::AutoReply),
        ("Subject: Automatic reply: your offer", MailKind::AutoReply),
        (
            "Subject: =?utf-8?q?R=C3=A9ponse_automatique?= : offre",
            MailKind::AutoReply,
        ),
        ("X-Failed-Recipients: c@d.example", MailKind::Bounce),
        (
            "Content-Type: multipart/report; report-type=delivery-status; boundary=x",
            MailKind::Bounce,
        ),
        (
            "Content-Type: multipart/report; report-type=disposition-notification; boundary=x",
            MailKind::Personal,
        ),
    ] {
        assert_eq!(kind(headers), expected, "{headers}");
    }
    let bounce = b"From: Mail Delivery <MAILER-DAEMON@mx.example>\nSubject: Returned\n\nx\n";
    assert_eq!(parse_headers(bounce).unwrap().kind, MailKind::Bounce);
}

/// Goal: a segment says whether it is new, quoted or a signature, and where it stands.
#[test]
fn parts_of_a_mail() {
    let raw = "From: Ana Lund <a@b.example>\nSubject: Re: Pilot\n\nYes, from May.\n\nBest regards,\nAna Lund\n\n\
               On 3 Apr 2026, at 10:00, Bob <b@c.example> wrote:\n\n> When?\n";
    let email = parse_email(raw.as_bytes()).unwrap();
    let parts: Vec<(Part, &str)> = email
        .segments
        .iter()
        .map(|s| (s.part, s.content.as_str()))
        .collect();
    let expected = [
        (Part::Body, "Yes, from May."),
        (Part::Signature, "Best regards, Ana Lund"),
        (
            Part::Quoted,
            "On 3 Apr 2026, at 10:00, Bob <b@c.example> wrote:",
        ),
        (Part::Quoted, "> When?"),
    ];
    assert_eq!(parts, expected);
    let characters: Vec<char> = email.body.chars().collect();
    for segment in &email.segments {
        let place: String = characters[segment.start_char as usize..segment.end_char as usize]
            .iter()
            .collect();
        assert_eq!(crate::markup::collapse_whitespace(&place), segment.content);
    }
    let forward = "From: a@b.example\nSubject: Fwd: Pilot\n\nSee below.\n\nFrom: Bob\nSent: today\nTo: me\n\nIt is 15%.\n";
    let email = parse_email(forward.as_bytes()).unwrap();
    assert!(
        email
            .segments
            .iter()
            .all(|segment| segment.part == Part::Body)
    );
}

/// Goal: of the real replies of mailgun/talon the new text is found, and of its signed mails the signature.
#[test]
fn talon_replies() {
    let dir =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/mime_mail/talon_replies");
    if !dir.is_dir() {
        println!("skipped: talon_replies: no shared/data/mime_mail/talon_replies");
        return;
    }
    let files = |sub: &str| {
        let mut paths: Vec<_> = std::fs::read_dir(dir.join(sub))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    };
    let (mut found, mut replies) = (0, 0);
    for path in files("standard_replies")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "eml"))
    {
        let email = parse_email(&std::fs::read(&path).unwrap()).unwrap();
        let new = email.segments.iter().filter(|s| s.part == Part::Body);
        let new: Vec<&str> = new.map(|s| s.content.as_str()).collect();
        replies += 1;
        let is_found = new.join(" ").starts_with("Hello") && new.join(" ").len() < 40;
        found += usize::from(is_found);
        if !is_found {
            println!("{}: {new:?}", path.file_name().unwrap().to_string_lossy());
        }
    }
    let (mut html_found, mut html_replies) = (0, 0);
    for path in files("html_replies") {
        let mut mail =
            b"From: alex@example.com\nContent-Type: text/html; charset=utf-8\n\n".to_vec();
        mail.extend(std::fs::read(&path).unwrap());
        let email = parse_email(&mail).unwrap();
        let new = email.segments.iter().filter(|s| s.part != Part::Quoted);
        let new: Vec<&str> = new.map(|s| s.content.as_str()).collect();
        html_replies += 1;
        let is_found = new
            .join(" ")
            .split_whitespace()
            .eq("Hi. I am fine. Thanks, Alex".split(' '));
        html_found += usize::from(is_found);
        if !is_found {
            println!("{}: {new:?} {:?}", path.display(), email.body);
        }
    }
    let (mut signed, mut signatures) = (0, 0);
    for path in files("signature/emails/stripped") {
        let name = path.to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix("_body") else {
            continue;
        };
        let read = |part: &str| std::fs::read_to_string(format!("{stem}_{part}")).unwrap();
        let (body, sender, expected) = (
            read("body").replace("#sig#", ""),
            read("sender"),
            read("signature").replace("#sig#", ""),
        );
        if expected.trim().is_empty() || expected.trim() == body.trim() {
            continue;
        }
        let sender = sender.trim();
        let sender = Sender {
            name: Some(sender).filter(|sender| !sender.contains('@')),
            address: sender,
        };
        let parts = crate::mail_parts::mail_parts(&body, Some(sender), false);
        let signature: String = parts
            .iter()
            .filter(|(_, p)| *p == Part::Signature)
            .map(|(range, _)| &body[range.clone()])
            .collect();
        signed += 1;
        let is_found = signature.trim() == expected.trim();
        signatures += usize::from(is_found);
        if !is_found {
            println!("{stem}: {signature:?}");
        }
    }
    println!(
        "measured: new text of {found} of {replies} replies and {html_found} of {html_replies} in HTML, {signatures} of {signed} signatures"
    );
    assert!(found * 10 >= replies * 9 && html_found * 10 >= html_replies * 9);
    assert_eq!(signatures, signed);
}
