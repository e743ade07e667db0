//! Work on a caller's behalf that the caller has no rights for.

use pgrx::pg_sys;

/// The rights of the background workers, until it is dropped; an error that ends the transaction takes them back too.
pub struct WorkerRights {
    user: pg_sys::Oid,
    context: i32,
    settings: i32,
}

impl WorkerRights {
    pub fn assume() -> Self {
        let mut caller = Self {
            user: pg_sys::InvalidOid,
            context: 0,
            settings: 0,
        };
        // SAFETY: as fmgr_security_definer does it; the role comes with the extension.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut caller.user, &mut caller.context);
            let worker = pg_sys::get_role_oid(c"salesai_worker".as_ptr(), false);
            let changed = caller.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            pg_sys::SetUserIdAndSecContext(worker, changed);
            // Names mean what they mean to us, not what the caller's schemas make of them.
            caller.settings = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        caller
    }
}

impl Drop for WorkerRights {
    fn drop(&mut self) {
        // SAFETY: what `assume` found.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::AtEOXact_GUC(true, self.settings);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}
