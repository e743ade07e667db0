#![allow(clippy::unwrap_used)]

use crate::transcript::{FormatChoice, TranscriptFormat, parse_transcript};

/// Goal: SRT with commas or points, labels and tags; VTT without header is read the same way.
#[test]
fn srt_cues() {
    let text = "1\n00:00:01,000 --> 00:00:02,500\n<i>Alice: hello</i>\n<b>there</b>\n\n\
                2\n00:00:03.000 --> 00:00:04.000\nBob Stone: bye\n3\n00:00:05,000 --> 00:00:06,000\nNOTE me\n";
    let transcript = parse_transcript(text, FormatChoice::Auto).unwrap();
    assert_eq!(transcript.format, TranscriptFormat::Srt);
    let found: Vec<_> = transcript
        .segments
        .iter()
        .map(|s| (s.speaker.as_deref(), s.start_ms, s.content.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (Some("Alice"), Some(1000), "hello there"),
            (Some("Bob Stone"), Some(3000), "bye"),
            (None, Some(5000), "NOTE me"),
        ]
    );
}
