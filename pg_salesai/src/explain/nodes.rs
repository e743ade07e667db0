//! Counting by node: a node's share is what was used while it was asked for its next row, its children included, as
//! with EXPLAIN's buffers.
//!
//! An error of a query passes the functions here as C passes it, by a jump: nothing is caught and raised anew, which
//! would lose its context. They therefore hold nothing that waits to be dropped, and cannot panic.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;

use pgrx::prelude::*;

use super::option;
use crate::usage::{self, Usage};

thread_local! {
    static PREVIOUS: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

// pgrx has it too, with errors turned into panics.
#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
}

/// A node's instrumentation with more behind it: PostgreSQL sees the first part.
#[repr(C)]
struct Counted {
    instrumentation: pg_sys::Instrumentation,
    next_row: NextRow,
    /// None until it was asked for a row.
    usage: Option<Usage>,
}

type NextRow =
    unsafe extern "C-unwind" fn(node: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot;

pub fn register() {
    // SAFETY: the library is being loaded.
    #[allow(unsafe_code)]
    unsafe {
        PREVIOUS.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(start);
    }
}

/// What a node used. One that is never asked for a row, as a Hash, which fills its table instead, shows what its
/// children used.
///
/// # Safety
/// The node is NULL or one of a query that has not ended.
#[allow(unsafe_code)]
pub unsafe fn used_by(node: *const pg_sys::PlanState) -> Usage {
    // SAFETY: by the caller; who has our function has our instrumentation.
    unsafe {
        let Some(node) = node.as_ref() else {
            return Usage::default();
        };
        let counted = is_counted(node).then(|| node.instrument.cast::<Counted>());
        match counted.and_then(|counted| (*counted).usage) {
            Some(usage) => usage,
            None => used_by(node.lefttree) + used_by(node.righttree),
        }
    }
}

/// Nothing is counted but for a statement with the option.
#[allow(unsafe_code)]
unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: as PostgreSQL calls it; the nodes are there after the query's start.
    unsafe {
        match PREVIOUS.get() {
            Some(previous) => previous(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
        if option::is_running() && (*query).instrument_options != 0 {
            count_all((*query).planstate, ptr::null_mut());
        }
    }
}

/// Lets a node and all below it be counted.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn count_all(node: *mut pg_sys::PlanState, context: *mut c_void) -> bool {
    // SAFETY: nodes of a query that was started, and nobody has run yet.
    unsafe {
        let Some(state) = node.as_mut() else {
            return false;
        };
        if let Some(next_row) = state.ExecProcNodeReal
            && !state.instrument.is_null()
            && !is_counted(state)
        {
            // The memory of the query: it ends with the nodes.
            let memory = (*state.state).es_query_cxt;
            let counted: *mut Counted =
                pg_sys::MemoryContextAlloc(memory, size_of::<Counted>()).cast();
            counted.write(Counted {
                instrumentation: *state.instrument,
                next_row,
                usage: None,
            });
            state.instrument = counted.cast();
            state.ExecProcNodeReal = Some(next_row_counted);
        }
        pg_sys::planstate_tree_walker(node, Some(count_all), context)
    }
}

/// In the place of a node's own function.
#[allow(unsafe_code)]
unsafe extern "C-unwind" fn next_row_counted(
    node: *mut pg_sys::PlanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: `count_all` has put it there together with the instrumentation.
    unsafe {
        let counted = (*node).instrument.cast::<Counted>();
        let before = usage::total();
        let row = ((*counted).next_row)(node);
        let used = usage::total() - before;
        (*counted).usage = Some((*counted).usage.unwrap_or_default() + used);
        row
    }
}

fn is_counted(node: &pg_sys::PlanState) -> bool {
    let ours: NextRow = next_row_counted;
    node.ExecProcNodeReal
        .is_some_and(|next_row| ptr::fn_addr_eq(next_row, ours))
}
