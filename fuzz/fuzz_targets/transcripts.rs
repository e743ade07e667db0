//! Goal: no text makes a parser of transcripts (WebVTT, SRT, Gong's JSON, plain) panic or hang.

#![no_main]

use domain::transcript::{FormatChoice, inspect_transcript, parse_transcript};

libfuzzer_sys::fuzz_target!(|text: &str| {
    for format in ["auto", "vtt", "srt", "gong", "plain"] {
        let format: FormatChoice = format.parse().expect("is a format");
        let _ = inspect_transcript(text, format);
        let _ = parse_transcript(text, format);
    }
});
