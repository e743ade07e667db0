//! Goal: no bytes make the parsers of e-mails (MIME, Outlook's .msg) panic, hang or allocate beyond their size.

#![no_main]

use domain::email;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = email::parse_headers(bytes);
    let _ = email::parse_email(bytes);
    let _ = email::attached_documents(bytes);
});
