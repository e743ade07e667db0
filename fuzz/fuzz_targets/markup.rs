//! Goal: no bytes make the readers of HTML, RTF, CSV, Markdown and plain text panic, hang or allocate beyond their
//! limits.

#![no_main]

mod limits;

use documents::DocumentFormat::{Csv, Html, Markdown, Rtf, Text};

libfuzzer_sys::fuzz_target!(init: limits::accept_panics_of_libraries(), |bytes: &[u8]| {
    for format in [Csv, Html, Markdown, Rtf, Text] {
        let _ = documents::read(bytes, format, &limits::LIMITS);
    }
});
