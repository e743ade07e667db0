#![allow(clippy::unwrap_used)]

use crate::transcript::{FormatChoice, TranscriptFormat, parse_transcript};

type Row<'a> = (Option<&'a str>, u32, Option<i64>, &'a str);

fn check(text: &str, expected: &[Row<'_>]) {
    let transcript = parse_transcript(text, FormatChoice::Auto).unwrap();
    assert_eq!(transcript.format, TranscriptFormat::Plain);
    let found: Vec<Row<'_>> = transcript
        .segments
        .iter()
        .map(|s| (s.speaker.as_deref(), s.turn, s.start_ms, s.content.as_str()))
        .collect();
    assert_eq!(found, expected, "{text}");
}

/// Goal: labels, continuation lines and blank lines.
#[test]
fn labelled_lines() {
    check(
        "intro\n\nAlice: hi\n  and more\n\nBob:\nyes, at 10:30 we start\nAlice: ok",
        &[
            (None, 0, None, "intro"),
            (Some("Alice"), 1, None, "hi"),
            (Some("Alice"), 1, None, "and more"),
            (Some("Bob"), 2, None, "yes, at 10:30 we start"),
            (Some("Alice"), 3, None, "ok"),
        ],
    );
}

/// Goal: a text without any label is one segment per line.
#[test]
fn unlabelled_lines() {
    check(
        "one\r\n\r\ntwo\rthree",
        &[
            (None, 0, None, "one"),
            (None, 0, None, "two"),
            (None, 0, None, "three"),
        ],
    );
}

/// Goal: the spellings of a time before or behind a label, and no time where people just say one.
#[test]
fn leading_times() {
    check(
        "[00:01:02] Alice: a\n(12:34) Bob: b\n00:00:03 c\n12:35 Bob: d\n10:30 works for me\n\
         Alice (00:20:00): e\n[00:30:00]\nf\n[laughs] g\n(a",
        &[
            (Some("Alice"), 0, Some(62_000), "a"),
            (Some("Bob"), 1, Some(754_000), "b"),
            (Some("Bob"), 1, Some(3_000), "c"),
            (Some("Bob"), 1, Some(755_000), "d"),
            (Some("Bob"), 1, None, "10:30 works for me"),
            (Some("Alice"), 2, Some(1_200_000), "e"),
            (Some("Alice"), 2, Some(1_800_000), "f"),
            (Some("Alice"), 2, None, "[laughs] g"),
            (Some("Alice"), 2, None, "(a"),
        ],
    );
}
