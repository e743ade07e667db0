//! Work on a caller's behalf that the caller has no rights for.

use pgrx::pg_sys;

/// The rights of the background workers, until it is dropped; an error that ends the transaction takes them back too.
pub struct WorkerRights {
    user: pg_sys::Oid,
    context: i32,
}

impl WorkerRights {
    pub fn assume() -> Self {
        let mut caller = Self {
            user: pg_sys::InvalidOid,
            context: 0,
        };
        // SAFETY: as fmgr_security_definer does it; the role comes with the extension.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut caller.user, &mut caller.context);
            let worker = pg_sys::get_role_oid(c"salesai_worker".as_ptr(), false);
            let changed = caller.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            pg_sys::SetUserIdAndSecContext(worker, changed);
        }
        caller
    }
}

impl Drop for WorkerRights {
    fn drop(&mut self) {
        // SAFETY: what `assume` found.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}
