#![allow(clippy::unwrap_used)]

use crate::transcript::{
    FormatChoice, TranscriptError, TranscriptFormat, TranscriptProblem, parse_transcript,
};

type Row<'a> = (Option<&'a str>, u32, i64, i64, &'a str);

fn check(text: &str, expected: &[Row<'_>]) {
    let transcript = parse_transcript(text, FormatChoice::Fixed(TranscriptFormat::Vtt)).unwrap();
    let found: Vec<Row<'_>> = transcript
        .segments
        .iter()
        .map(|s| {
            let times = (s.start_ms.unwrap(), s.end_ms.unwrap());
            (
                s.speaker.as_deref(),
                s.turn,
                times.0,
                times.1,
                s.content.as_str(),
            )
        })
        .collect();
    assert_eq!(found, expected, "{text}");
}

fn check_malformed(text: &str, line: u32, problem: TranscriptProblem) {
    let found = parse_transcript(text, FormatChoice::Fixed(TranscriptFormat::Vtt));
    assert_eq!(
        found,
        Err(TranscriptError::Malformed { line, problem }),
        "{text}"
    );
}

/// Goal: Zoom's cues give speaker, turns, times and cleaned text; BOM, CRLF and notes do no harm.
#[test]
fn zoom_cues() {
    check(
        "\u{feff}WEBVTT - Zoom\r\nKind: captions\r\n\r\nNOTE made by\r\nZoom\r\n\r\nSTYLE\r\n::cue {}\r\n\r\n\
         1\r\n00:01.000 --> 00:02.500 align:start\r\nAlice [Acme]: R&amp;D   says\r\n<i>hi</i>\r\n\r\n\
         2\r\n00:00:03.000 --> 00:00:04.000\r\nAlice [Acme]: again\r\n\r\n\
         3\r\n00:00:04.000 --> 00:00:05.000\r\n\r\n\
         4\r\n00:00:05.000 --> 00:00:06.000\r\nno label here\r\n",
        &[
            (Some("Alice [Acme]"), 0, 1000, 2500, "R&D says hi"),
            (Some("Alice [Acme]"), 0, 3000, 4000, "again"),
            (None, 1, 5000, 6000, "no label here"),
        ],
    );
}

/// Goal: Teams' voice spans, several in one cue, unpadded and negative times, GUID identifiers.
#[test]
fn teams_voice_spans() {
    check(
        "WEBVTT\n\n0d4a1b2c-1111-2222-3333-444455556666/12-0\n-0:0:1.0 --> 0:0:5.1\n\
         <v Anna Berg>Good\nmorning: all</v>\n<v.loud Bob O&#39;Hara>Hello</v> there <v>who?</v>\n\n\
         0:0:6.0 --> 0:0:7.0\n<v Bob O&#39;Hara>Open end\n",
        &[
            (Some("Anna Berg"), 0, 0, 5100, "Good morning: all"),
            (Some("Bob O'Hara"), 1, 0, 5100, "Hello"),
            (Some("Bob O'Hara"), 1, 0, 5100, "there"),
            (None, 2, 0, 5100, "who?"),
            (Some("Bob O'Hara"), 3, 6000, 7000, "Open end"),
        ],
    );
}

/// Goal: several labelled lines in one cue are several segments; an unlabelled line goes on.
#[test]
fn labels_inside_one_cue() {
    check(
        "WEBVTT\n\n00:01.000 --> 00:02.000\nAlice: hi\nand more\nBob: yes\n",
        &[
            (Some("Alice"), 0, 1000, 2000, "hi and more"),
            (Some("Bob"), 1, 1000, 2000, "yes"),
        ],
    );
    check(
        "WEBVTT\n\n00:01.000 --> 00:02.000\nwe said it\nOne thing: no\n",
        &[(None, 0, 1000, 2000, "we said it One thing: no")],
    );
}

/// Goal: a missing blank line before a cue costs neither text nor the next cue.
#[test]
fn missing_blank_lines() {
    check(
        "WEBVTT\n1\n00:01.000 --> 00:02.000\nAlice: one\n2\n00:02.000 --> 00:03.000\nAlice: two\n\
         00:03.000 --> 00:04.000\nAlice: three --> four\n",
        &[
            (Some("Alice"), 0, 1000, 2000, "one"),
            (Some("Alice"), 0, 2000, 3000, "two"),
            (Some("Alice"), 0, 3000, 4000, "three --> four"),
        ],
    );
}

/// Goal: ranges are characters of the content in the original, without label and tags around.
#[test]
fn ranges_are_characters() {
    let text = "WEBVTT\n\n00:01.000 --> 00:02.000\nŁuk: żółw 🐢 idzie \n\n00:02.000 --> 00:03.000\n<v Ü>ä</v>\n";
    let transcript = parse_transcript(text, FormatChoice::Auto).unwrap();
    let originals: Vec<String> = transcript
        .segments
        .iter()
        .map(|s| {
            text.chars()
                .skip(s.start_char as usize)
                .take((s.end_char - s.start_char) as usize)
                .collect()
        })
        .collect();
    assert_eq!(originals, ["żółw 🐢 idzie", "ä"]);
    assert_eq!(transcript.duration_ms(), Some(3000));
    assert_eq!(transcript.speakers(), ["Łuk", "Ü"]);
    assert_eq!(transcript.turn_count(), 2);
}

/// Goal: what cannot be read is refused with the number of its line.
#[test]
fn malformed_files() {
    check_malformed("Alice: hi", 1, TranscriptProblem::MissingHeader);
    check_malformed("\n\nWEBVTTX\n", 3, TranscriptProblem::MissingHeader);
    check_malformed(
        "WEBVTT\n\n1\n00:xx --> 00:02.000\nhi",
        4,
        TranscriptProblem::UnreadableTimes,
    );
    check_malformed(
        "WEBVTT\r\n\r\n-->\r\n",
        3,
        TranscriptProblem::UnreadableTimes,
    );
    let swapped = "WEBVTT\n\n00:05.000 --> 00:02.000\nhi\n";
    check(swapped, &[(None, 0, 5000, 5000, "hi")]);
    let empty = parse_transcript("WEBVTT\n\n", FormatChoice::Auto);
    assert_eq!(empty, Err(TranscriptError::NoSegments));
}
