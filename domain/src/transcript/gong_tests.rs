//! Goal: Gong's JSON becomes segments with speakers, times and exact places, in each of its shapes.

use super::super::{
    FormatChoice, TranscriptError, TranscriptFormat, TranscriptProblem, parse_transcript,
};

const ANSWER: &str = r#"{
  "requestId": "4al018gzaztcr8nbukw",
  "callTranscripts": [{
    "callId": "7782342274025937895",
    "transcript": [
      {"speakerId": "64", "topic": "Objections", "sentences": [
        {"start": 460230, "end": 462343, "text": "No wait, I think we should check that out first."},
        {"start": 462980, "end": 463000, "text": "\"Ja\", süß\u2026 "}
      ]},
      {"speakerId": "65", "topic": null, "sentences": [{"start": 463100, "end": 464000, "text": "Fine."}]}
    ]
  }],
  "parties": [
    {"id": "1", "speakerId": "64", "name": "Test User", "emailAddress": "test@test.com", "affiliation": "Internal"},
    {"id": "2", "name": "Silent"}
  ]
}"#;

#[test]
fn an_answer_is_read() {
    let parsed = parse_transcript(ANSWER, FormatChoice::Auto).unwrap();
    assert_eq!(parsed.format, TranscriptFormat::Gong);
    let found: Vec<_> = parsed
        .segments
        .iter()
        .map(|s| {
            (
                s.speaker.as_deref().unwrap(),
                s.turn,
                s.start_ms.unwrap(),
                s.content.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "Test User",
                0,
                460_230,
                "No wait, I think we should check that out first."
            ),
            ("Test User", 0, 462_980, "\"Ja\", süß…"),
            ("Speaker 65", 1, 463_100, "Fine."),
        ]
    );
    let place = |index: usize| -> String {
        let segment = &parsed.segments[index];
        let (start, end) = (segment.start_char as usize, segment.end_char as usize);
        ANSWER.chars().skip(start).take(end - start).collect()
    };
    assert_eq!(place(0), "No wait, I think we should check that out first.");
    assert_eq!(place(1), r#"\"Ja\", süß\u2026 "#);
    assert_eq!(parsed.duration_ms(), Some(464_000));
}

#[test]
fn a_call_alone_is_read() {
    let call = r#"{"transcript": [{"speakerId": "1", "sentences": [{"start": 0, "end": 9, "text": "Hello"}]}]}"#;
    for format in [FormatChoice::Auto, "gong".parse().unwrap()] {
        let parsed = parse_transcript(call, format).unwrap();
        assert_eq!(parsed.segments[0].content, "Hello");
    }
}

#[test]
fn other_json_is_refused() {
    let gong: FormatChoice = "gong".parse().unwrap();
    let malformed = |line, problem| Err(TranscriptError::Malformed { line, problem });
    for (text, expected) in [
        ("[1]", malformed(1, TranscriptProblem::NotGong)),
        (
            "{\n\"transcript\": 5}",
            malformed(2, TranscriptProblem::NotGong),
        ),
        (
            "{\"transcript\": [",
            malformed(1, TranscriptProblem::NotGong),
        ),
        (
            r#"{"transcript": [{"sentences": [{"text": 5}]}]}"#,
            malformed(1, TranscriptProblem::NotGong),
        ),
        (
            r#"{"callTranscripts": [{}, {}]}"#,
            malformed(1, TranscriptProblem::SeveralCalls),
        ),
        ("{}", Err(TranscriptError::NoSegments)),
    ] {
        assert_eq!(parse_transcript(text, gong), expected, "{text}");
    }
}
