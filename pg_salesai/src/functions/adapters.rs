//! Adapters in the sidecar and in the table.

use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::adapters::{file, transfer};
use crate::sidecar::Deadline;

#[pg_extern(sql = "")]
fn load_adapter(name: &str, timeout_ms: Option<i32>) -> Result<i64, ErrorReport> {
    let deadline = Deadline::from_argument(timeout_ms)?;
    let generation = transfer::load(name, deadline)?;
    Ok(i64::try_from(generation).unwrap_or(i64::MAX))
}

#[pg_extern(sql = "")]
fn unload_adapter(name: &str, timeout_ms: Option<i32>) -> Result<bool, ErrorReport> {
    let deadline = Deadline::from_argument(timeout_ms)?;
    Ok(transfer::unload(name, deadline)?)
}

#[pg_extern(sql = "")]
fn inspect_adapter(adapter_id: i64) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(file::inspect(adapter_id)?))
}
