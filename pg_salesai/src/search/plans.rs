//! Statements of search that are the same each time, planned once a session: planning takes as long as what most of
//! them do. PostgreSQL plans them anew when a table, the role or the search path changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::PgOid;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiTupleTable};

use crate::error::Error;

/// Embedding sets come and go, and each has statements of its own.
const PLANS_MAX: usize = 64;

/// The rows of a statement that reads.
pub fn select<'a>(
    client: &SpiClient<'a>,
    statement: &str,
    values: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'a>, Error> {
    thread_local! {
        static PLANS: RefCell<HashMap<String, Rc<OwnedPreparedStatement>>> = RefCell::default();
    }
    let known = PLANS.with_borrow(|plans| plans.get(statement).cloned());
    let plan = match known {
        Some(plan) => plan,
        None => {
            let types: Vec<PgOid> = values.iter().map(|value| value.oid().into()).collect();
            let plan = Rc::new(client.prepare(statement, &types)?.keep());
            PLANS.with_borrow_mut(|plans| {
                if plans.len() >= PLANS_MAX {
                    plans.clear();
                }
                plans.insert(statement.to_owned(), Rc::clone(&plan));
            });
            plan
        }
    };
    Ok(client.select(&*plan, None, values)?)
}
