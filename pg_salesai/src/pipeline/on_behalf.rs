//! Work for a role that waits elsewhere: what it asks of the database has that role's rights, and models are called
//! between two transactions.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use super::trouble::Trouble;
use super::{DatabaseError, Transactions};
use crate::errand::{self, Errand};
use crate::error::Error;
use crate::rights::AskerRights;

/// Why nothing is kept.
pub enum End {
    /// Another process has the work now, or nobody wants it.
    Lost,
    Troubled(Trouble),
}

/// What is leased to this process.
pub trait Lease: Clone + 'static {
    /// False when it was lost, or nobody wants the work any more.
    fn renew(&self, lease_ms: i32) -> Result<bool, Error>;
}

/// For whom, and under which lease.
#[derive(Clone)]
pub struct OnBehalf<T, L> {
    pub transactions: T,
    pub lease: L,
    pub lease_ms: i32,
    pub role: String,
}

impl<T: Transactions + Clone + 'static, L: Lease> OnBehalf<T, L> {
    /// Calls models between the transactions of a worker; where a caller's is open, in that.
    pub fn between<R>(self, work: impl FnOnce() -> Result<R, Error>) -> Result<R, End> {
        let done = if errand::is_in_transaction() {
            let _rights = AskerRights::assume(&self.role);
            work()
        } else {
            errand::run(Rc::new(self), work)
        };
        match done {
            Err(Error::Withdrawn) => Err(End::Lost),
            done => Ok(done?),
        }
    }
}

impl<T: Transactions, L: Lease> Errand for OnBehalf<T, L> {
    fn transact(&self, body: &mut dyn FnMut()) -> Result<(), Error> {
        Ok(run(&self.transactions, || {
            let _rights = AskerRights::assume(&self.role);
            body();
        })?)
    }

    fn look(&self) -> Result<(), Error> {
        if self.transactions.is_database_wanted() {
            return Err(Error::Withdrawn);
        }
        match run(&self.transactions, || self.lease.renew(self.lease_ms)) {
            Ok(Ok(true)) => Ok(()),
            // An error as well: the extension may be gone, or somebody holds the row.
            _ => Err(Error::Withdrawn),
        }
    }
}

pub fn run<R>(
    transactions: &impl Transactions,
    body: impl FnOnce() -> R,
) -> Result<R, DatabaseError> {
    // An error ends the transaction, and with it all that the body may have left half done.
    transactions.run(AssertUnwindSafe(body))
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Troubled(error.into())
    }
}

impl From<DatabaseError> for End {
    fn from(error: DatabaseError) -> Self {
        Self::Troubled(error.into())
    }
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Troubled(trouble)
    }
}
