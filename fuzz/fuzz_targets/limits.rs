//! What a document may cost while it is fuzzed, and whose panics are no finding.

use std::backtrace::Backtrace;
use std::panic;

use documents::Limits;

pub const LIMITS: Limits = Limits {
    file_bytes: 1 << 20,
    expanded_bytes: 16 << 20,
    text_bytes: 16 << 20,
    pages: 1_000,
    cells: 100_000,
};

/// libFuzzer's hook ends the process at each panic, caught or not. Libraries for documents panic at damaged files, which
/// `documents` turns into an error: only panics of our own are findings.
pub fn accept_panics_of_libraries() {
    let end = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |location| location.file());
        let is_of_library = match is_standard_library(file) {
            true => is_called_by_library(),
            false => file.contains(LIBRARIES),
        };
        if !is_of_library {
            end(panic);
        }
    }));
}

const LIBRARIES: &str = "/registry/src/";

/// Some of its functions panic in its own name: overflowing sums, capacities.
fn is_standard_library(file: &str) -> bool {
    file.starts_with("/rustc/") || file.starts_with("library/")
}

/// Whether the innermost function of the backtrace that is not the standard library's is a library's.
fn is_called_by_library() -> bool {
    let trace = Backtrace::force_capture().to_string();
    let crates = trace.lines().filter_map(crate_of_frame);
    let mut callers = crates.skip_while(|name| *name != "core");
    let caller = callers.find(|name| !["core", "alloc", "std"].contains(name));
    caller.is_some_and(|name| !["documents", "domain"].contains(&name))
}

/// "12: <calamine::xlsx::Xlsx<RS> as calamine::Reader<RS>>::new": calamine.
fn crate_of_frame(line: &str) -> Option<&str> {
    let (number, symbol) = line.trim_start().split_once(": ")?;
    number.parse::<u32>().ok()?;
    let (name, _) = symbol
        .trim_start_matches(['<', '&', '[', '('])
        .split_once("::")?;
    Some(name.trim_start_matches("mut ").trim_start_matches("dyn "))
}
