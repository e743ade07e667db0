//! Wakes the workers when a transaction that queued work commits, through their latches in shared memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::{
    PGRXSharedMemory, PgAtomic, PgXactCallbackEvent, pg_shmem_init, register_xact_callback,
};

use crate::wait_events::WaitEvent;

/// Processes that can be woken: of 8 databases, each with 16 workers and one that builds indexes.
const SLOTS: usize = 8 * 17;

/// Address of each worker's latch, 0 while it does not run. Latches of processes lie in shared memory
/// at the same address everywhere, and one that changed hands is merely woken for nothing.
struct Latches([AtomicUsize; SLOTS]);

impl Default for Latches {
    fn default() -> Self {
        Self([const { AtomicUsize::new(0) }; SLOTS])
    }
}

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl PGRXSharedMemory for Latches {}

// SAFETY: the name is unique to this extension.
#[allow(unsafe_code)]
static LATCHES: PgAtomic<Latches> = unsafe { PgAtomic::new(c"pg_salesai worker latches") };

thread_local! {
    /// Whether this transaction has asked for a wake-up already.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
    /// Whether the library was preloaded, so that there are latches at all.
    static HAS_LATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Reserves the shared memory; called while the postmaster preloads the library.
// The macro asks for features of every PostgreSQL that pgrx knows.
#[allow(unsafe_code, unexpected_cfgs)]
pub fn register() {
    pg_shmem_init!(LATCHES);
    // Inherited by every process that the postmaster forks.
    HAS_LATCHES.set(true);
}

/// Makes this worker's latch known under its slot.
pub fn announce(slot: usize) {
    if let Some(latch) = LATCHES.get().0.get(slot) {
        // SAFETY: MyLatch is set once a process is initialised.
        #[allow(unsafe_code)]
        latch.store(unsafe { pg_sys::MyLatch } as usize, Ordering::Release);
    }
}

/// Wakes the workers after the present transaction commits; nothing happens when it does not.
pub fn wake_at_commit() {
    if !HAS_LATCHES.get() || IS_ASKED.replace(true) {
        return;
    }
    register_xact_callback(PgXactCallbackEvent::Commit, || {
        IS_ASKED.set(false);
        wake();
    });
    register_xact_callback(PgXactCallbackEvent::Abort, || IS_ASKED.set(false));
}

fn wake() {
    for latch in &LATCHES.get().0 {
        let address = latch.load(Ordering::Acquire);
        if address != 0 {
            // SAFETY: the address of a latch in shared memory, which outlives every process.
            #[allow(unsafe_code)]
            unsafe {
                pg_sys::SetLatch(address as *mut pg_sys::Latch);
            }
        }
    }
}

/// Rests until woken, signalled, or `pause` is over.
pub fn wait(pause: Duration) {
    let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: our own latch, outside any transaction.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            pause_ms,
            WaitEvent::Queue.info(),
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}
