//! Lets a waiting backend notice cancel, terminate and everything else that PostgreSQL asks of it.

use std::pin::Pin;
use std::time::Duration;

use pgrx::pg_sys;

use crate::errand;

/// How often a waiting call looks at the flags: a cancelled backend is idle again within this and the
/// time it takes to unwind.
const POLL: Duration = Duration::from_millis(5);

/// What ended one round of waiting.
pub enum Waited<T> {
    Answered(T),
    /// PostgreSQL wants `ProcessInterrupts` to be called; the future is intact and may go on after it.
    Interrupted,
    /// An errand is to look whether it is still wanted; the same holds of the future.
    LookDue,
}

/// Waits for `answer`, or until something else has to be done first.
pub async fn wait<T>(answer: Pin<&mut impl Future<Output = T>>) -> Waited<T> {
    tokio::select! {
        biased;
        answer = answer => Waited::Answered(answer),
        is_interrupted = pending() => match is_interrupted {
            true => Waited::Interrupted,
            false => Waited::LookDue,
        },
    }
}

/// True when it is an interrupt.
async fn pending() -> bool {
    loop {
        // First the pause: while interrupts are held off, ProcessInterrupts returns without clearing the
        // flag, and a loop without a pause would spin.
        tokio::time::sleep(POLL).await;
        if is_pending() {
            return true;
        }
        if errand::is_look_due() {
            return false;
        }
    }
}

fn is_pending() -> bool {
    // SAFETY: a volatile read of a flag that signal handlers of this very thread set.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::addr_of!(pg_sys::InterruptPending).read_volatile() != 0
    }
}
