//! Goal: no text makes the parsers of calls, e-mails and notes or the rules of redaction and cleaning panic, and places
//! in a redacted text lead back into the original.

#![no_main]

use domain::redaction::{KindSet, KnownNames, find_pii, redact};
use domain::transcript::{FormatChoice, parse_transcript};
use domain::{chunking, cleaning, email, language, paragraphs};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = email::parse_email(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for format in ["auto", "vtt", "srt", "plain"] {
        let format: FormatChoice = format.parse().expect("is a format");
        let _ = parse_transcript(text, format);
    }
    let _ = paragraphs::split_markdown(text);
    let _ = cleaning::clean(text, Some("en"));
    let _ = language::language([text]);
    let _ = chunking::section_titles(text.split("\n\n"));
    let names = KnownNames::new(["Dana Wills"]);
    let redacted = redact(text, &find_pii(text, KindSet::all(), &names));
    let characters = |text: &str| text.chars().count() as u32;
    let all = redacted.map.to_original(0..characters(&redacted.text));
    assert_eq!(all, 0..characters(text));
});
