//! Rows on their way to the client.

use pgrx::pg_sys;

/// `libpq.h`: how output of a connection is written. The same in PostgreSQL 16 to 18.
#[repr(C)]
struct Methods {
    comm_reset: Option<unsafe extern "C-unwind" fn()>,
    flush: Option<unsafe extern "C-unwind" fn() -> core::ffi::c_int>,
    flush_if_writable: Option<unsafe extern "C-unwind" fn() -> core::ffi::c_int>,
}

#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    static PqCommMethods: *const Methods;
}

/// Rows of which each is sent before the next is waited for.
pub fn row_by_row<T>(mut next: impl FnMut() -> Option<T>) -> impl Iterator<Item = T> {
    let mut has_row = false;
    std::iter::from_fn(move || {
        if has_row {
            flush();
        }
        has_row = true;
        next()
    })
}

/// Sends the rows that wait in the output buffer, which PostgreSQL does when 8 kB are full or the statement has ended:
/// a reader of a stream wants each as it comes. A client that does not read is not waited for.
fn flush() {
    // SAFETY: both are set when a connection begins, and only this thread uses them.
    #[allow(unsafe_code)]
    unsafe {
        if pg_sys::whereToSendOutput == pg_sys::CommandDest::DestRemote
            && let Some(methods) = PqCommMethods.as_ref()
            && let Some(flush_if_writable) = methods.flush_if_writable
        {
            flush_if_writable();
        }
    }
}
