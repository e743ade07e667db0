#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use super::{TRANSCRIPT_BYTES_MAX, parse_transcript};
use crate::markup::clean_markup;
use crate::transcript::{FormatChoice, TranscriptError, TranscriptFormat};

/// Goal: format names are parsed and an unknown one is cut and refused.
#[test]
fn format_names() {
    for (name, choice) in [
        ("auto", FormatChoice::Auto),
        ("vtt", FormatChoice::Fixed(TranscriptFormat::Vtt)),
        ("srt", FormatChoice::Fixed(TranscriptFormat::Srt)),
        ("plain", FormatChoice::Fixed(TranscriptFormat::Plain)),
    ] {
        assert_eq!(name.parse::<FormatChoice>(), Ok(choice));
    }
    let unknown = "x".repeat(100).parse::<FormatChoice>();
    assert_eq!(unknown, Err(TranscriptError::UnknownFormat("x".repeat(32))));
}

/// Goal: the limits hold, and errors do not repeat the text.
#[test]
fn limits() {
    for text in ["", " \n\t\r\n", "\u{feff}\n"] {
        assert_eq!(
            parse_transcript(text, FormatChoice::Auto),
            Err(TranscriptError::Empty)
        );
    }
    let long = "a".repeat(TRANSCRIPT_BYTES_MAX + 1);
    let found = parse_transcript(&long, FormatChoice::Auto).unwrap_err();
    assert_eq!(
        found.to_string(),
        "transcript has 16777217 bytes, more than 16777216"
    );
    let many = "a\n".repeat(200_001);
    let found = parse_transcript(&many, FormatChoice::Auto).unwrap_err();
    assert_eq!(
        found,
        TranscriptError::TooManySegments {
            segments_max: 200_000
        }
    );
    assert!(parse_transcript(&many[2..], FormatChoice::Auto).is_ok());
}

/// Goal: the largest hostile text is done in time that grows with its length only.
#[test]
fn hostile_texts_take_linear_time() {
    let times = "00:01.000 --> 00:02.000\n";
    let fill = |head: &str, unit: &str| {
        let mut text = head.to_owned();
        while text.len() + unit.len() <= TRANSCRIPT_BYTES_MAX {
            text.push_str(unit);
        }
        text
    };
    for (head, unit) in [
        (format!("WEBVTT\n\n{times}"), "<v"),
        (format!("WEBVTT\n\n{times}"), "<v "),
        (format!("WEBVTT\n\n{times}"), "<v a>"),
        (format!("WEBVTT\n\n{times}"), "<v a>b</v>"),
        (format!("WEBVTT\n\n{times}"), "&"),
        (format!("WEBVTT\n\n{times}"), "a: "),
        (format!("WEBVTT\n\n{times}"), "a: b\n"),
        (format!("WEBVTT\n\n{times}"), "-->"),
        (format!("WEBVTT\n\n{times}"), "x -->\n"),
        ("WEBVTT\n\n".to_owned(), times),
        ("WEBVTT\n\n".to_owned(), "NOTE -->\n"),
        ("WEBVTT\n\n".to_owned(), "1\n"),
        (String::new(), "-->"),
        (String::new(), "-->\n"),
        (String::new(), "["),
        (String::new(), "\n"),
        (String::new(), ": "),
        (String::new(), "a.: "),
        ("[".to_owned(), "1"),
    ] {
        let text = fill(&head, unit);
        let start = Instant::now();
        let _ = parse_transcript(&text, FormatChoice::Auto);
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{unit:?}: {:?}",
            start.elapsed()
        );
    }
}

/// Goal: real Zoom files give one segment per filled cue, each with a speaker and its exact place.
#[test]
fn real_zoom_files() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/zoom_vtt"
    ));
    let Ok(entries) = std::fs::read_dir(folder) else {
        eprintln!(
            "skipped: real Zoom transcripts are not at {}",
            folder.display()
        );
        return;
    };
    let mut file_count = 0;
    for entry in entries {
        let Ok(text) = std::fs::read_to_string(entry.unwrap().path().join("transcript.vtt")) else {
            continue;
        };
        file_count += 1;
        let segments = parse_transcript(&text, FormatChoice::Auto)
            .unwrap()
            .segments;
        assert_eq!(segments.len(), filled_cue_count(&text));
        let characters: Vec<char> = text.chars().collect();
        for segment in &segments {
            assert!(segment.speaker.is_some());
            let range = segment.start_char as usize..segment.end_char as usize;
            let original: String = characters[range].iter().collect();
            assert_eq!(clean_markup(&original), segment.content);
        }
        assert!(
            segments
                .windows(2)
                .all(|pair| pair[0].end_char <= pair[1].start_char)
        );
    }
    assert!(file_count > 0);
}

fn filled_cue_count(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_filled = |pair: &&[&str]| {
        let (_, words) = pair[1].split_once(": ").unwrap_or(("", pair[1]));
        pair[0].contains("-->") && !words.trim().is_empty()
    };
    lines.windows(2).filter(is_filled).count()
}
