//! The batching node: a custom scan over the node below. It reads some rows, lets [`Batch`] ask about all of them, and
//! gives those that pass its conditions, in their order.
//!
//! Errors of the node below and of expressions pass `next_row`, `fill` and `evaluate` by a jump, as in C, and keep their
//! context: those functions hold nothing that waits to be dropped, and cannot panic.

use std::ffi::{CStr, c_int};
use std::mem::size_of;
use std::ptr::{self, addr_of};

use pgrx::{PgList, PgMemoryContexts, pg_sys, prelude::*};

use super::batch::{Batch, Pending};

const NAME: &CStr = c"SalesaiBatch";

static SCAN: Methods<pg_sys::CustomScanMethods> = Methods(pg_sys::CustomScanMethods {
    CustomName: NAME.as_ptr(),
    CreateCustomScanState: Some(create),
});

static EXECUTION: Methods<pg_sys::CustomExecMethods> = Methods(pg_sys::CustomExecMethods {
    CustomName: NAME.as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(next_row),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(explain),
});

/// Functions and a name, which never change.
struct Methods<T>(T);

// SAFETY: nobody writes to it.
#[allow(unsafe_code)]
unsafe impl<T> Sync for Methods<T> {}

// pgrx has them too, with errors turned into panics, which would lose their context.
#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    fn ExecReScan(node: *mut pg_sys::PlanState);
    #[link_name = "ExecProject__pgrx_cshim"]
    fn ExecProject(list: *mut pg_sys::ProjectionInfo) -> *mut pg_sys::TupleTableSlot;
}

/// The state of a node.
#[repr(C)]
struct Node {
    custom: pg_sys::CustomScanState,
    batch: *mut Batch,
}

pub fn register() {
    // SAFETY: the library is being loaded, and stays.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::RegisterCustomScanMethods(scan_methods());
    }
}

pub fn scan_methods() -> *const pg_sys::CustomScanMethods {
    addr_of!(SCAN.0)
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn create(_plan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: zero is a valid value of all its fields.
    unsafe {
        let node: *mut Node = pg_sys::palloc0(size_of::<Node>()).cast();
        (*node).custom.ss.ps.type_ = pg_sys::NodeTag::T_CustomScanState;
        (*node).custom.methods = addr_of!(EXECUTION.0);
        node.cast()
    }
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn begin(
    node: *mut pg_sys::CustomScanState,
    state: *mut pg_sys::EState,
    flags: c_int,
) {
    // SAFETY: as PostgreSQL calls it; the memory of the query outlives the node.
    unsafe {
        let plan: *mut pg_sys::CustomScan = (*node).ss.ps.plan.cast();
        let flags = flags & !((pg_sys::EXEC_FLAG_BACKWARD | pg_sys::EXEC_FLAG_MARK) as c_int);
        (*node).ss.ps.lefttree = pg_sys::ExecInitNode((*plan).scan.plan.lefttree, state, flags);
        let batch = Batch::new(node, plan);
        (*node.cast::<Node>()).batch =
            PgMemoryContexts::For((*state).es_query_cxt).leak_and_drop_on_delete(batch);
    }
}

#[allow(unsafe_code)]
unsafe extern "C-unwind" fn next_row(
    node: *mut pg_sys::CustomScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: as PostgreSQL calls it, between begin and end.
    unsafe {
        loop {
            if load_next(node) {
                return match (*node).ss.ps.ps_ProjInfo {
                    list if list.is_null() => (*node).ss.ss_ScanTupleSlot,
                    list => ExecProject(list),
                };
            }
            if (*batch_of(node)).is_at_end() {
                return ptr::null_mut();
            }
            start(node);
            fill(node);
            evaluate(node);
        }
    }
}

/// Takes rows of the node below.
#[allow(unsafe_code)]
unsafe fn fill(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as of `next_row`.
    unsafe {
        let below = (*node).ss.ps.lefttree;
        while (*batch_of(node)).has_room() {
            if !(*below).chgParam.is_null() {
                ExecReScan(below);
            }
            let Some(next_below) = (*below).ExecProcNode else {
                return;
            };
            take(node, next_below(below));
        }
    }
}

/// Evaluates what the batch needs, until all was asked.
#[allow(unsafe_code)]
unsafe fn evaluate(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as of `next_row`.
    unsafe {
        loop {
            let Pending { expression, memory } = pending(node);
            let evaluate = match expression.as_ref() {
                Some(expression) => expression.evalfunc,
                None => return,
            };
            let Some(evaluate) = evaluate else {
                return;
            };
            let outer = pg_sys::MemoryContextSwitchTo(memory);
            let mut is_null = false;
            let value = evaluate(expression, (*node).ss.ps.ps_ExprContext, &mut is_null);
            pg_sys::MemoryContextSwitchTo(outer);
            give(node, value, is_null);
        }
    }
}

/// Puts the next row that passes where the select list reads it; false where the batch has no more.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn load_next(node: *mut pg_sys::CustomScanState) -> bool {
    // SAFETY: as of `next_row`.
    unsafe { (*batch_of(node)).next(node) }
}

/// What is evaluated next; an expression of NULL ends it.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn pending(node: *mut pg_sys::CustomScanState) -> Pending {
    // SAFETY: as of `next_row`.
    unsafe { (*batch_of(node)).pending(node) }
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn start(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as of `next_row`. A row that was changed by somebody else is looked at anew, alone.
    unsafe {
        let is_recheck = !(*(*node).ss.ps.state).es_epq_active.is_null();
        (*batch_of(node)).start(is_recheck);
    }
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn take(
    node: *mut pg_sys::CustomScanState,
    row: *mut pg_sys::TupleTableSlot,
) {
    // SAFETY: as of `next_row`; the row is what the node below gave.
    unsafe { (*batch_of(node)).take(row) }
}

/// The value of what was pending.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn give(
    node: *mut pg_sys::CustomScanState,
    value: pg_sys::Datum,
    is_null: bool,
) {
    // SAFETY: as of `next_row`.
    unsafe { (*batch_of(node)).give((value, is_null)) }
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as PostgreSQL calls it. Where parameters of the node below changed, it does so itself.
    unsafe {
        (*batch_of(node)).forget();
        let below = (*node).ss.ps.lefttree;
        if (*below).chgParam.is_null() {
            pg_sys::ExecReScan(below);
        }
    }
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn end(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as PostgreSQL calls it.
    unsafe {
        (*batch_of(node)).forget();
        pg_sys::ExecEndNode((*node).ss.ps.lefttree);
    }
}

/// Names the functions that are called for many rows at once, and says how often they were.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn explain(
    node: *mut pg_sys::CustomScanState,
    _ancestors: *mut pg_sys::List,
    state: *mut pg_sys::ExplainState,
) {
    // SAFETY: as PostgreSQL calls it; lists and names are its own copies.
    unsafe {
        let batch = &*batch_of(node);
        let mut names = PgList::<std::ffi::c_char>::new();
        for name in batch.functions() {
            names.push(pg_sys::pstrdup(name.as_ptr()));
        }
        pg_sys::ExplainPropertyList(c"Batched".as_ptr(), names.into_pg(), state);
        if (*state).analyze {
            let count = batch.count();
            pg_sys::ExplainPropertyInteger(c"Batches".as_ptr(), ptr::null(), count, state);
        }
    }
}

#[allow(unsafe_code)]
unsafe fn batch_of(node: *mut pg_sys::CustomScanState) -> *mut Batch {
    // SAFETY: by the caller, a state that `create` made.
    unsafe { (*node.cast::<Node>()).batch }
}
