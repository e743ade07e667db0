//! The option `salesai` of EXPLAIN.

use std::cell::Cell;
use std::ptr;

use pgrx::PgMemoryContexts;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::error::Error;

thread_local! {
    static PREVIOUS: Cell<pg_sys::explain_validate_options_hook_type> = const { Cell::new(None) };
    /// Statements with the option that have not ended: a query of one may explain another.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

pub fn register() {
    // SAFETY: the library is being loaded; names and functions stay where they are as long as the process.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::RegisterExtensionExplainOption(c"salesai".as_ptr(), Some(read));
        PREVIOUS.set(pg_sys::explain_validate_options_hook);
        pg_sys::explain_validate_options_hook = Some(validate);
    }
}

/// Whether this statement has the option.
///
/// # Safety
/// The state is one that PostgreSQL handed to a hook.
#[allow(unsafe_code)]
pub unsafe fn is_on(state: *mut pg_sys::ExplainState) -> bool {
    // SAFETY: by the caller.
    unsafe { !pg_sys::GetExplainExtensionState(state, extension_id()).is_null() }
}

/// Whether a statement with the option runs. It cannot panic.
pub fn is_running() -> bool {
    RUNNING.get() > 0
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn read(
    state: *mut pg_sys::ExplainState,
    option: *mut pg_sys::DefElem,
    _parse_state: *mut pg_sys::ParseState,
) {
    // SAFETY: as PostgreSQL hands them over; what the state keeps only says that the option is on.
    unsafe {
        let is_on = match pg_sys::defGetBoolean(option) {
            true => ptr::dangling_mut(),
            false => ptr::null_mut(),
        };
        pg_sys::SetExplainExtensionState(state, extension_id(), is_on);
    }
}

/// Runs when all options were read.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn validate(
    state: *mut pg_sys::ExplainState,
    options: *mut pg_sys::List,
    parse_state: *mut pg_sys::ParseState,
) {
    // SAFETY: as PostgreSQL hands them over, to the hook that was there before.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous(state, options, parse_state));
        }
        if is_on(state) {
            check(&*state).map_err(ErrorReport::from).unwrap_or_report();
            Running::begin();
        }
    }
}

fn check(state: &pg_sys::ExplainState) -> Result<(), Error> {
    match state.analyze {
        true => Ok(()),
        false => Err(Error::argument("EXPLAIN option SALESAI requires ANALYZE")),
    }
}

/// A statement with the option, until it is dropped.
struct Running;

impl Running {
    /// The memory of the statement owns it, so every end of the statement drops it.
    fn begin() {
        RUNNING.set(RUNNING.get() + 1);
        PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(Self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get() - 1);
    }
}

fn extension_id() -> std::ffi::c_int {
    // SAFETY: a name; the id stays the same.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::GetExplainExtensionId(c"pg_salesai".as_ptr())
    }
}
