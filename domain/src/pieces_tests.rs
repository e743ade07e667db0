#![allow(clippy::unwrap_used)]

use super::{SEGMENT_CHARS_MAX, piece_ranges};
use crate::transcript::{FormatChoice, parse_transcript};

fn pieces(text: &str) -> Vec<&str> {
    piece_ranges(text, 0..text.len())
        .into_iter()
        .map(|range| &text[range])
        .collect()
}

fn all_fit(pieces: &[&str]) -> bool {
    pieces
        .iter()
        .all(|piece| piece.chars().count() <= SEGMENT_CHARS_MAX)
}

/// Goal: a long stretch is cut between sentences, a long sentence between words, a long word anywhere.
#[test]
fn long_stretches_are_cut() {
    let text = "Żaba is a frog in Polish. ".repeat(60);
    let found = pieces(text.trim());
    assert_eq!(found.len(), 3);
    assert!(all_fit(&found) && found.iter().all(|piece| piece.ends_with('.')));
    assert_eq!(found.join(" "), text.trim());

    let text = "żaba ".repeat(2000);
    assert!(all_fit(&pieces(text.trim())));
    assert_eq!(pieces(text.trim()).join(" "), text.trim());

    let text = "ż".repeat(1500);
    assert_eq!(pieces(&text).concat(), text);
    assert_eq!(pieces(&text).len(), 3);
}

/// Goal: a long cue becomes segments of one turn whose ranges are exact and whose times are shared out.
#[test]
fn long_cues_become_segments_of_one_turn() {
    let said = "We should talk about the price. ".repeat(40);
    let text = format!(
        "WEBVTT\n\n00:00.000 --> 00:10.000\nAnn Lee: {}\n",
        said.trim()
    );
    let transcript = parse_transcript(&text, FormatChoice::Auto).unwrap();
    assert_eq!(transcript.segments.len(), 3);
    assert_eq!(transcript.turn_count(), 1);
    let characters: Vec<char> = text.chars().collect();
    for segment in &transcript.segments {
        let range = segment.start_char as usize..segment.end_char as usize;
        let original: String = characters[range].iter().collect();
        assert!(original == segment.content);
    }
    let times: Vec<i64> = transcript
        .segments
        .iter()
        .flat_map(|segment| [segment.start_ms.unwrap(), segment.end_ms.unwrap()])
        .collect();
    assert_eq!((times[0], times[5]), (0, 10_000));
    assert!(times.is_sorted());
}

/// Goal: a long cue with markup inside is cut too; its pieces share the range of the cue.
#[test]
fn long_cues_with_markup_are_cut() {
    let said = "We <b>should</b> talk &amp; agree. ".repeat(40);
    let text = format!(
        "WEBVTT\n\n00:00.000 --> 00:10.000\nAnn Lee: {}\n",
        said.trim()
    );
    let transcript = parse_transcript(&text, FormatChoice::Auto).unwrap();
    assert!(transcript.segments.len() > 1);
    let contents: Vec<&str> = transcript
        .segments
        .iter()
        .map(|segment| segment.content.as_str())
        .collect();
    assert!(all_fit(&contents));
    assert!(contents.join(" ") == "We should talk & agree. ".repeat(40).trim());
}
