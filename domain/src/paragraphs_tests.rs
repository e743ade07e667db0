#![allow(clippy::unwrap_used)]

use super::split_paragraphs;
use crate::error::ParagraphError;

fn originals(text: &str) -> Vec<String> {
    let cut = |start: u32, end: u32| {
        text.chars()
            .skip(start as usize)
            .take((end - start) as usize)
            .collect()
    };
    split_paragraphs(text)
        .unwrap()
        .iter()
        .map(|s| cut(s.start_char, s.end_char))
        .collect()
}

/// Goal: blank lines part paragraphs; ranges are exact characters, contents are on one line.
#[test]
fn blank_lines_part_paragraphs() {
    let text = "\n  Ünder one\ntwo  \n \t \r\n\r\nthree\r\nfour\n\n";
    assert_eq!(originals(text), ["Ünder one\ntwo", "three\r\nfour"]);
    let contents: Vec<String> = split_paragraphs(text)
        .unwrap()
        .into_iter()
        .map(|s| s.content)
        .collect();
    assert_eq!(contents, ["Ünder one two", "three four"]);
    assert!(originals(" \n\n").is_empty());
}

/// Goal: the number of paragraphs has a limit.
#[test]
fn too_many_paragraphs() {
    let found = split_paragraphs(&"a\n\n".repeat(200_001));
    assert_eq!(
        found,
        Err(ParagraphError::TooManySegments {
            segments_max: 200_000
        })
    );
}
