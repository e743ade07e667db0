//! The SQL functions of column tasks (`sql/schema/68_column_values.sql`), called in whatever transaction is open.

use pgrx::{JsonB, Spi};
use serde::Deserialize;
use serde_json::Value;

use super::on_behalf::Lease;
use super::request_queue::{answer, one};
use super::trouble::Trouble;
use crate::error::Error;
use crate::operators::Maker;

/// Rows that are listed in one transaction.
const LISTED_MAX: i32 = 5_000;

/// Some leased rows of a task, and what is asked of them.
#[derive(Clone, Deserialize)]
pub struct Leased {
    task_id: i64,
    token: String,
    /// The owner of the table, whose rights the task has.
    pub role: String,
    /// Why nothing can be done.
    pub problem: Option<String>,
    pub operator: String,
    pub arguments: Value,
    pub options: Value,
    /// Whether rows of the table are not known yet.
    pub is_listing: bool,
    rows: Vec<Value>,
}

/// A row as it is now.
#[derive(Deserialize)]
pub struct Row {
    pub id: i64,
    #[serde(default)]
    pub key: Value,
    pub document: Option<String>,
    pub sha256: Option<String>,
    /// It has the value of this document already.
    #[serde(default)]
    pub is_known: bool,
    /// Nobody sees it any more.
    #[serde(default)]
    pub is_gone: bool,
    pub error: Option<Trouble>,
}

/// What became of the values.
#[derive(Deserialize)]
pub struct Written {
    pub written: i32,
    pub errors: Vec<Refused>,
}

/// A row that takes no value.
#[derive(Deserialize)]
pub struct Refused {
    pub id: i64,
    pub error: Trouble,
}

impl Leased {
    /// Rows of the next task that is due.
    pub fn claim(rows_max: i32, lease_ms: i32) -> Result<Option<Self>, Error> {
        let claimed = "select salesai.claim_column_rows($1, $2)";
        match one::<JsonB>(claimed, &[rows_max.into(), lease_ms.into()])? {
            Some(JsonB(json)) => Ok(Some(serde_json::from_value(json)?)),
            None => Ok(None),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// With the owner's rights; false when another process does it.
    pub fn list(&self) -> Result<Result<bool, Trouble>, Error> {
        let arguments = [self.task_id.into(), LISTED_MAX.into()];
        let listed = answer("select salesai.list_column_rows($1, $2)", &arguments)?;
        Ok(listed.map(|json| json.get("listed").is_some()))
    }

    /// With the owner's rights.
    pub fn documents(&self) -> Result<Result<Vec<Row>, Trouble>, Error> {
        let arguments = [
            self.task_id.into(),
            JsonB(Value::Array(self.rows.clone())).into(),
        ];
        match answer("select salesai.column_documents($1, $2)", &arguments)? {
            Ok(mut json) => Ok(Ok(serde_json::from_value(json["rows"].take())?)),
            Err(trouble) => Ok(Err(trouble)),
        }
    }

    /// With the owner's rights.
    pub fn write(
        &self,
        values: Vec<Value>,
        maker: Option<&Maker>,
    ) -> Result<Result<Written, Trouble>, Error> {
        let arguments = [
            self.task_id.into(),
            self.token.as_str().into(),
            maker
                .map(serde_json::to_value)
                .transpose()?
                .map(JsonB)
                .into(),
            JsonB(Value::Array(values)).into(),
        ];
        let written = "select salesai.write_column_values($1, $2::pg_catalog.uuid, $3, $4)";
        match answer(written, &arguments)? {
            Ok(json) => Ok(Ok(serde_json::from_value(json)?)),
            Err(trouble) => Ok(Err(trouble)),
        }
    }

    pub fn fail(&self, row_id: i64, trouble: &Trouble) -> Result<(), Error> {
        let arguments = [
            row_id.into(),
            self.token.as_str().into(),
            trouble.class().name().into(),
            trouble.code.as_str().into(),
            trouble.message.as_str().into(),
            trouble.hint.as_deref().into(),
        ];
        Ok(Spi::run_with_args(
            "select salesai.fail_column_row($1, $2::pg_catalog.uuid, $3, $4, $5, $6)",
            &arguments,
        )?)
    }

    /// Takes rows that are gone off the list.
    pub fn forget(&self, row_ids: Vec<i64>) -> Result<(), Error> {
        Ok(Spi::run_with_args(
            "select salesai.forget_column_rows($1, $2::pg_catalog.uuid)",
            &[row_ids.into(), self.token.as_str().into()],
        )?)
    }

    /// Gives back what is still leased.
    pub fn release(&self, retry_ms: i32) -> Result<(), Error> {
        Ok(Spi::run_with_args(
            "select salesai.release_column_rows($1, $2::pg_catalog.uuid, $3)",
            &[
                self.task_id.into(),
                self.token.as_str().into(),
                retry_ms.into(),
            ],
        )?)
    }

    /// Gives all back, and says why nothing can be done.
    pub fn block(&self, trouble: &Trouble, retry_ms: Option<i32>) -> Result<(), Error> {
        let arguments = [
            self.task_id.into(),
            self.token.as_str().into(),
            trouble.code.as_str().into(),
            trouble.message.as_str().into(),
            trouble.hint.as_deref().into(),
            retry_ms.into(),
        ];
        Ok(Spi::run_with_args(
            "select salesai.block_column_task($1, $2::pg_catalog.uuid, $3, $4, $5, $6)",
            &arguments,
        )?)
    }

    /// For the log, which names no row.
    pub fn task_id(&self) -> i64 {
        self.task_id
    }
}

impl Lease for Leased {
    fn renew(&self, lease_ms: i32) -> Result<bool, Error> {
        let renewed = "select salesai.renew_column_rows($1::pg_catalog.uuid, $2)";
        let arguments = [self.token.as_str().into(), lease_ms.into()];
        Ok(one::<bool>(renewed, &arguments)?.unwrap_or(false))
    }
}

/// Whether something can be done for a column; false in a schema of before 0.3.0.
pub fn has_due_columns() -> Result<bool, Error> {
    const IS_INSTALLED: &str = "select pg_catalog.to_regclass('salesai.column_task') is not null";
    const IS_DUE: &str = "select exists (select from salesai.due_column_tasks())";
    let is_installed = one::<bool>(IS_INSTALLED, &[])?.unwrap_or(false);
    Ok(is_installed && one::<bool>(IS_DUE, &[])?.unwrap_or(false))
}
