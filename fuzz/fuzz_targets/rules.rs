//! Goal: no text makes the rules of redaction, cleaning and chunking, or the reader of CSV, panic or hang, and places in
//! a redacted text lead back into the original.

#![no_main]

use domain::redaction::{KindSet, KnownNames, find_pii, redact};
use domain::{chunking, cleaning, language, paragraphs, table};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = paragraphs::split_paragraphs(text);
    let _ = paragraphs::split_markdown(text);
    for language in ["en", "de", "fr", "es", "it", "pt", "nl"] {
        let _ = cleaning::clean(text, Some(language));
    }
    let _ = language::language([text]);
    let _ = table::parse_records(text);
    let _ = chunking::section_titles(text.split("\n\n"));
    let names = KnownNames::new(["Dana Wills"]);
    let redacted = redact(text, &find_pii(text, KindSet::all(), &names));
    let characters = |text: &str| text.chars().count() as u32;
    let all = redacted.map.to_original(0..characters(&redacted.text));
    assert_eq!(all, 0..characters(text));
});
