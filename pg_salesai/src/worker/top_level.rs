//! Statements that must not run inside a transaction, such as `create index concurrently`: PostgreSQL runs them
//! only as a client's own statement, which is what this makes of them.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Runs one statement as its own transactions, with the rights of the process. Raises PostgreSQL's error; the
/// caller then aborts the transaction that is open.
pub fn run(statement: &str) {
    let Ok(statement) = CString::new(statement) else {
        error!("a statement with a zero byte");
    };
    // SAFETY: the calls that exec_simple_query makes for a message with one statement, in its order. Parse tree and
    // plan outlive transactions, because a concurrent build commits while it runs.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, statement.as_ptr());
        pg_sys::StartTransactionCommand();
        reset_message_context();
        let parsed = pg_sys::pg_parse_query(statement.as_ptr());
        let raw = pg_sys::list_nth(parsed, 0).cast::<pg_sys::RawStmt>();
        let tag = pg_sys::CreateCommandTag((*raw).stmt);
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let rewritten = pg_sys::pg_analyze_and_rewrite_fixedparams(
            raw,
            statement.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        let plans = pg_sys::pg_plan_queries(rewritten, statement.as_ptr(), 0, std::ptr::null_mut());
        pg_sys::PopActiveSnapshot();
        let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
        (*portal).visible = false;
        pg_sys::PortalDefineQuery(
            portal,
            std::ptr::null(),
            statement.as_ptr(),
            tag,
            plans,
            std::ptr::null_mut(),
        );
        pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
        #[cfg(feature = "pg18")]
        pg_sys::PortalRun(
            portal,
            ALL_ROWS,
            true,
            receiver,
            receiver,
            std::ptr::null_mut(),
        );
        #[cfg(not(feature = "pg18"))]
        pg_sys::PortalRun(
            portal,
            ALL_ROWS,
            true,
            true,
            receiver,
            receiver,
            std::ptr::null_mut(),
        );
        pg_sys::PortalDrop(portal, false);
        pg_sys::CommitTransactionCommand();
        pg_sys::pgstat_report_stat(true);
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
    }
}

/// Makes the context current that a backend has for each message of its client; a worker has none of its own.
///
/// # Safety
/// Nothing that an earlier statement left in it is used any more.
#[allow(unsafe_code)]
unsafe fn reset_message_context() {
    // SAFETY: as the caller promises.
    unsafe {
        if pg_sys::MessageContext.is_null() {
            pg_sys::MessageContext = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"MessageContext".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
        }
        pg_sys::MemoryContextReset(pg_sys::MessageContext);
        pg_sys::MemoryContextSwitchTo(pg_sys::MessageContext);
    }
}

/// FETCH_ALL.
const ALL_ROWS: std::ffi::c_long = std::ffi::c_long::MAX;
