//! Goal: no bytes make the readers of office documents and EPUB panic, hang or allocate beyond their limits: neither a
//! damaged file nor a sound archive with damaged XML, which the input is where its first byte names a part.

#![no_main]

mod limits;
#[allow(dead_code)]
#[path = "../parts.rs"]
mod parts;

use documents::DocumentFormat;

libfuzzer_sys::fuzz_target!(init: limits::accept_panics_of_libraries(), |bytes: &[u8]| {
    let archive = parts::archive(bytes);
    let bytes = archive.as_deref().unwrap_or(bytes);
    if let Ok(format) = DocumentFormat::detect(bytes, "", None)
        && format != DocumentFormat::Pdf
    {
        let _ = documents::read(bytes, format, &limits::LIMITS);
    }
});
