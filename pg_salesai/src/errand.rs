//! Work for somebody who does not wait: models are called with no transaction open, and each question to the database
//! that comes up meanwhile has a short one of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::error::Error;

/// How often a long call looks whether it is still wanted.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// On whose behalf, and for how long.
pub trait Errand {
    /// Runs `body` in a transaction, with the rights of who asked.
    fn transact(&self, body: &mut dyn FnMut()) -> Result<(), Error>;

    /// Fails when nobody wants the answer any more; called between two rounds of waiting.
    fn look(&self) -> Result<(), Error>;
}

thread_local! {
    static PRESENT: RefCell<Option<Rc<dyn Errand>>> = const { RefCell::new(None) };
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `work`, which calls models, outside any transaction. One errand may be a part of another.
pub fn run<R>(errand: Rc<dyn Errand>, work: impl FnOnce() -> R) -> R {
    struct End(Option<Rc<dyn Errand>>);
    impl Drop for End {
        fn drop(&mut self) {
            PRESENT.set(self.0.take());
        }
    }
    let _end = End(PRESENT.replace(Some(errand)));
    LOOKED.set(Some(Instant::now()));
    work()
}

/// Asks the database: in the transaction that is open, or in one of the errand's own.
pub fn ask<R>(question: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let Some(errand) = present() else {
        return question();
    };
    let (mut question, mut answer) = (Some(question), None);
    errand.transact(&mut || answer = question.take().map(|question| question()))?;
    // `transact` runs its body, or fails.
    answer.unwrap_or(Err(Error::Withdrawn))
}

/// Whether a waiting call is to look now.
pub fn is_look_due() -> bool {
    LOOKED
        .get()
        .is_some_and(|looked| looked.elapsed() >= LOOK_PAUSE)
        && present().is_some()
}

/// Looks whether the answer is still wanted.
pub fn look() -> Result<(), Error> {
    let looked = present().map_or(Ok(()), |errand| errand.look());
    LOOKED.set(Some(Instant::now()));
    looked
}

/// The errand, while no transaction is open.
fn present() -> Option<Rc<dyn Errand>> {
    if is_in_transaction() {
        return None;
    }
    PRESENT.with_borrow(Clone::clone)
}

/// Whether a transaction is open.
pub fn is_in_transaction() -> bool {
    // SAFETY: reads this backend's state.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::IsTransactionState()
    }
}
