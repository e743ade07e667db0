//! What the database has: its schema may be of before this library.

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::Spi;

use crate::error::Error;

/// Whether there is a table or view of this name. `Spi::get_one` would assign a transaction id.
pub fn has_relation(name: &'static str) -> Result<bool, Error> {
    thread_local! {
        static KNOWN: RefCell<HashSet<&'static str>> = RefCell::default();
    }
    if KNOWN.with_borrow(|known| known.contains(name)) {
        return Ok(true);
    }
    let is_there = Spi::connect(|client| {
        let question = "select pg_catalog.to_regclass($1) is not null";
        client
            .select(question, Some(1), &[name.into()])?
            .first()
            .get_one::<bool>()
    })?;
    let is_there = is_there.unwrap_or(false);
    if is_there {
        KNOWN.with_borrow_mut(|known| known.insert(name));
    }
    Ok(is_there)
}
