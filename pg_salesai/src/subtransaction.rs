//! A step inside the caller's transaction that can be taken back alone.

use pgrx::pg_sys;

/// Begun here, and taken back when it is dropped, unless it was kept.
pub struct Subtransaction {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
    is_kept: bool,
}

impl Subtransaction {
    pub fn begin() -> Self {
        // SAFETY: inside a transaction, as every function that SQL calls is. Memory of the caller outlives the step, so
        // its context stays the current one (as PL/pgSQL's blocks with EXCEPTION do, pl_exec.c).
        #[allow(unsafe_code)]
        unsafe {
            let step = Self {
                context: pg_sys::CurrentMemoryContext,
                owner: pg_sys::CurrentResourceOwner,
                is_kept: false,
            };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(step.context);
            step
        }
    }

    /// Keeps what was done since `begin`.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Subtransaction {
    fn drop(&mut self) {
        // SAFETY: ends what `begin` began, also while an error unwinds: PostgreSQL takes one that is still open then for
        // a savepoint of the user's, and waits for a ROLLBACK. Afterwards context and owner are the caller's again.
        #[allow(unsafe_code)]
        unsafe {
            match self.is_kept {
                true => pg_sys::ReleaseCurrentSubTransaction(),
                false => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
            }
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
