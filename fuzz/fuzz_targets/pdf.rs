//! Goal: no bytes make the reader of PDF panic outside its library, hang, allocate beyond its limits or end its process.

#![no_main]

mod limits;

use documents::DocumentFormat;

libfuzzer_sys::fuzz_target!(init: limits::accept_panics_of_libraries(), |bytes: &[u8]| {
    let _ = documents::read(bytes, DocumentFormat::Pdf, &limits::LIMITS);
});
