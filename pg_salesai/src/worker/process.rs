//! What our processes have in common: signals, settings, rest and end.

use std::time::Duration;

use pgrx::pg_sys;

use crate::wait_events::WaitEvent;

// PostgreSQL's own signal handlers, as plain C functions: pgrx's wrappers have another calling convention.
// SAFETY: signatures as in tcop/tcopprot.h and postmaster/interrupt.h.
#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    fn die(signal: std::ffi::c_int);
    fn SignalHandlerForConfigReload(signal: std::ffi::c_int);
}

/// Installs signal handlers.
pub fn handle_signals() {
    // `die` sets the flags that CHECK_FOR_INTERRUPTS reads, so that a worker that waits for the sidecar
    // leaves at once; the default handler would end the process in the middle of anything.
    // SAFETY: before signals are unblocked, in a process of our own.
    #[allow(unsafe_code)]
    unsafe {
        #[cfg(not(feature = "pg18"))]
        use pg_sys::pqsignal;
        #[cfg(feature = "pg18")]
        use pg_sys::pqsignal_be as pqsignal;
        pqsignal(pg_sys::SIGTERM as i32, Some(die));
        pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Reads the configuration files again after SIGHUP.
pub fn reload_settings() {
    // SAFETY: the flag is set by a signal handler of this thread; outside any transaction, as
    // ProcessConfigFile requires.
    #[allow(unsafe_code)]
    unsafe {
        let pending = std::ptr::addr_of_mut!(pg_sys::ConfigReloadPending);
        if pending.read_volatile() != 0 {
            pending.write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Rests until woken, signalled, or `pause` is over.
pub fn wait(pause: Duration, event: WaitEvent) {
    let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: our own latch, outside any transaction.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, pause_ms, event.info());
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// Ends the process; the launcher starts another one after a pause, if it is still wanted.
// The bindings of PostgreSQL 16 know that proc_exit does not return, those of 18 do not.
#[allow(unreachable_code)]
pub fn leave() -> ! {
    // SAFETY: the regular way out of a background worker.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::proc_exit(0);
    }
    unreachable!("proc_exit does not return")
}
