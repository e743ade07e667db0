//! How many rows the planner expects. EXPLAIN would say so too, but not inside a function that changes nothing.

use std::ffi::CString;

use pgrx::pg_sys;

use crate::error::Error;

/// How many chunks fulfil an SQL condition on `salesai.chunk c`, and what it costs to read their ids, in the planner's
/// unit, as it estimates both for the caller.
pub fn estimated_chunks(condition: &str) -> Result<(f64, f64), Error> {
    let query = format!("select c.id from salesai.chunk c where {condition}");
    let query = CString::new(query).map_err(|_| Error::argument("a condition with a zero byte"))?;
    // SAFETY: the calls that SPI makes for a statement, in their order, up to its plan, which lives in the present
    // memory context. One statement comes in, since a condition that ends it is no condition: then there are several.
    #[allow(unsafe_code)]
    unsafe {
        let parsed = pg_sys::pg_parse_query(query.as_ptr());
        if pg_sys::list_length(parsed) != 1 {
            return Err(Error::argument("not an SQL condition"));
        }
        let raw = pg_sys::list_nth(parsed, 0).cast::<pg_sys::RawStmt>();
        let rewritten = pg_sys::pg_analyze_and_rewrite_fixedparams(
            raw,
            query.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        let plans = pg_sys::pg_plan_queries(rewritten, query.as_ptr(), 0, std::ptr::null_mut());
        let statement = pg_sys::list_nth(plans, 0).cast::<pg_sys::PlannedStmt>();
        let plan = &*(*statement).planTree;
        Ok((plan.plan_rows, plan.total_cost))
    }
}
