//! Work on a caller's behalf that the caller has no rights for, and work for somebody who asked earlier.

use std::ffi::{CStr, CString};

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
            caller.settings = pg_sys::NewGUCNestLevel();
        }
        set(c"search_path", OUR_SEARCH_PATH);
        caller
    }
}

/// The rights of a role, as `set role` gives them, until it is dropped; an error that ends the transaction takes them
/// back too. Nothing that runs meanwhile can go back to the session's own: that is the context of a function with
/// another's rights.
pub struct AskerRights {
    user: pg_sys::Oid,
    context: i32,
    settings: i32,
}

impl AskerRights {
    /// Raises PostgreSQL's error where there is no such role, or the session may not take it.
    pub fn assume(role: &str) -> Self {
        Self::assume_in(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE)
    }

    /// For code of the role's own: nothing of it may be left for the end of the transaction, when these rights are
    /// gone. PostgreSQL refuses deferred triggers and cursors that are held.
    pub fn confined(role: &str) -> Self {
        let confined = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        Self::assume_in(role, confined)
    }

    fn assume_in(role: &str, context: u32) -> Self {
        // A name that PostgreSQL gave out has no zero byte.
        let role = CString::new(role).unwrap_or_default();
        let mut caller = Self {
            user: pg_sys::InvalidOid,
            context: 0,
            settings: 0,
        };
        // SAFETY: reads and sets this backend's state, in a transaction, whose end restores all of it.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut caller.user, &mut caller.context);
            caller.settings = pg_sys::NewGUCNestLevel();
            // The setting cannot be changed inside a function with another's rights, which this is not yet.
            pg_sys::SetUserIdAndSecContext(caller.user, 0);
        }
        // Row-level security asks this setting who the caller is, in parallel workers too.
        set(c"role", &role);
        let mut taken = (pg_sys::InvalidOid, 0);
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut taken.0, &mut taken.1);
            let changed = caller.context | context as i32;
            pg_sys::SetUserIdAndSecContext(taken.0, changed);
        }
        set(c"search_path", OUR_SEARCH_PATH);
        caller
    }
}

impl Drop for AskerRights {
    fn drop(&mut self) {
        // SAFETY: what `assume` found; the setting `role` changes the user as well, so the user comes last.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, 0);
            // Nothing that code of the role has set may outlive it.
            pg_sys::AtEOXact_GUC(false, self.settings);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Names mean what they mean to us, not what the caller's schemas make of them.
const OUR_SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Changes a setting until its nest level ends.
fn set(name: &CStr, value: &CStr) {
    // SAFETY: literals or strings that live as long as the call, which copies them.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
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
