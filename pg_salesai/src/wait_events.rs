//! What `pg_stat_activity.wait_event` shows while a process waits for us.

use std::cell::Cell;

use pgrx::pg_sys;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitEvent {
    /// An answer of the inference sidecar: `SalesaiSidecar`.
    Sidecar,
    /// Work, as a worker with nothing to do: `SalesaiQueue`.
    Queue,
    /// A process that ended or other settings, as the launcher: `SalesaiLauncher`.
    Launcher,
}

/// Shows a wait until it is dropped.
pub struct Waiting(());

impl Waiting {
    pub fn new(event: WaitEvent) -> Self {
        report(event.info());
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        report(0);
    }
}

impl WaitEvent {
    /// As `WaitLatch` takes it; registered by name once in each process.
    pub fn info(self) -> u32 {
        thread_local! {
            static SIDECAR: Cell<u32> = const { Cell::new(0) };
            static QUEUE: Cell<u32> = const { Cell::new(0) };
            static LAUNCHER: Cell<u32> = const { Cell::new(0) };
        }
        let (known, name) = match self {
            Self::Sidecar => (&SIDECAR, c"SalesaiSidecar"),
            Self::Queue => (&QUEUE, c"SalesaiQueue"),
            Self::Launcher => (&LAUNCHER, c"SalesaiLauncher"),
        };
        known.with(|known| {
            if known.get() == 0 {
                known.set(register(name));
            }
            known.get()
        })
    }
}

/// Before version 17 extensions have one event for all.
#[cfg(feature = "pg16")]
fn register(_: &std::ffi::CStr) -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}

#[cfg(not(feature = "pg16"))]
fn register(name: &std::ffi::CStr) -> u32 {
    // SAFETY: in a process with shared memory; the name outlives it.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::WaitEventExtensionNew(name.as_ptr())
    }
}

/// As pgstat_report_wait_start and pgstat_report_wait_end do, which are inline functions in C.
fn report(info: u32) {
    // SAFETY: points to this process's entry in shared memory, or to a variable before there is one.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::my_wait_event_info.write_volatile(info);
    }
}
