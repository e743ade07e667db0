//! What EXPLAIN prints of a node: a line like that of its WAL records in text, else a group.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::prelude::*;

use super::{nodes, option};
use crate::usage::{Measure, Usage};

const GROUP: &CStr = c"Models";

thread_local! {
    static PREVIOUS: Cell<pg_sys::explain_per_node_hook_type> = const { Cell::new(None) };
}

pub fn register() {
    // SAFETY: the library is being loaded.
    #[allow(unsafe_code)]
    unsafe {
        PREVIOUS.set(pg_sys::explain_per_node_hook);
        pg_sys::explain_per_node_hook = Some(show);
    }
}

/// Runs when all else of a node is printed.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn show(
    node: *mut pg_sys::PlanState,
    ancestors: *mut pg_sys::List,
    relationship: *const std::ffi::c_char,
    plan_name: *const std::ffi::c_char,
    state: *mut pg_sys::ExplainState,
) {
    // SAFETY: as PostgreSQL hands them over, to the hook that was there before; the query has not ended.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(node, ancestors, relationship, plan_name, state);
            });
        }
        if option::is_on(state) {
            let usage = nodes::used_by(node);
            match (*state).format {
                pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT => print_line(&usage, state),
                _ => print_group(&usage, state),
            }
        }
    }
}

/// What is zero is left out.
///
/// # Safety
/// The state is one that PostgreSQL handed to a hook.
#[allow(unsafe_code)]
unsafe fn print_line(usage: &Usage, state: *mut pg_sys::ExplainState) {
    // SAFETY: by the caller.
    let is_timed = unsafe { (*state).timing };
    let used = Measure::ALL
        .into_iter()
        .map(|measure| (measure, usage.get(measure)))
        .filter(|&(measure, sum)| sum != 0 && (is_timed || measure != Measure::SidecarWait));
    let words = used.map(|(measure, sum)| {
        let name = name(measure).to_string_lossy();
        let name = name.to_lowercase().replace(' ', "_");
        match measure {
            Measure::SidecarWait => format!(" {name}={:.3} ms", milliseconds(sum)),
            _ => format!(" {name}={sum}"),
        }
    });
    let line: String = words.collect();
    if line.is_empty() {
        return;
    }
    let line = CString::new(format!("Models:{line}\n")).unwrap_or_default();
    // SAFETY: by the caller; the text is copied.
    unsafe {
        pg_sys::ExplainIndentText(state);
        pg_sys::appendStringInfoString((*state).str_, line.as_ptr());
    }
}

/// All of it.
///
/// # Safety
/// The state is one that PostgreSQL handed to a hook.
#[allow(unsafe_code)]
unsafe fn print_group(usage: &Usage, state: *mut pg_sys::ExplainState) {
    // SAFETY: by the caller; names are constants.
    unsafe {
        pg_sys::ExplainOpenGroup(GROUP.as_ptr(), GROUP.as_ptr(), true, state);
        for measure in Measure::ALL {
            let (name, sum) = (name(measure).as_ptr(), usage.get(measure));
            match measure {
                Measure::SidecarWait if (*state).timing => {
                    pg_sys::ExplainPropertyFloat(name, c"ms".as_ptr(), milliseconds(sum), 3, state);
                }
                Measure::SidecarWait => {}
                _ => pg_sys::ExplainPropertyInteger(name, std::ptr::null(), sum, state),
            }
        }
        pg_sys::ExplainCloseGroup(GROUP.as_ptr(), GROUP.as_ptr(), true, state);
    }
}

fn name(measure: Measure) -> &'static CStr {
    match measure {
        Measure::Calls => c"Calls",
        Measure::Generations => c"Generations",
        Measure::PromptTokens => c"Prompt Tokens",
        Measure::CompletionTokens => c"Completion Tokens",
        Measure::EmbeddedTexts => c"Embedded Texts",
        Measure::EmbeddedTokens => c"Embedded Tokens",
        Measure::RerankedTexts => c"Reranked Texts",
        Measure::Remembered => c"Remembered",
        Measure::SidecarWait => c"Sidecar Wait",
    }
}

fn milliseconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1_000.0
}
