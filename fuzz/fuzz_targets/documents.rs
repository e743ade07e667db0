//! Goal: no bytes make the readers of documents panic, hang or allocate beyond their limits. PDF is left out: its
//! library panics on damaged files, which is why readers are processes of their own.

#![no_main]

use documents::{DocumentFormat, Limits};

const LIMITS: Limits = Limits {
    file_bytes: 1 << 20,
    expanded_bytes: 16 << 20,
    text_bytes: 16 << 20,
    pages: 1_000,
    cells: 100_000,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for name in ["a.txt", "a.html", "a.csv"] {
        match DocumentFormat::detect(bytes, name, None) {
            Ok(DocumentFormat::Pdf) | Err(_) => return,
            Ok(format) => {
                let _ = documents::read(bytes, format, &LIMITS);
            }
        }
    }
});
