//! What the database says about callers and adapters (`sql/schema/51_caller.sql`, `56_adapters.sql`,
//! `63_generate.sql`). Read-only, so that it works on a standby too.

use std::cell::Cell;

use pgrx::spi::SpiTupleTable;
use pgrx::{FromDatum, Spi};
use proto::model::{AdapterHeader, ModelChoice};

use crate::errand;
use crate::error::Error;
use crate::sidecar::Deadline;

/// Who calls, and what an adapter stands for now.
#[derive(Debug, Default)]
pub struct Context {
    pub caller: String,
    pub cache_salt: Vec<u8>,
    /// None: no adapter was named, or none of this name is active.
    pub adapter: Option<ContextAdapter>,
}

/// The adapter of a call.
#[derive(Debug)]
pub struct ContextAdapter {
    /// The model that it changes.
    pub model: String,
    /// None: the server of the model knows it, the database does not.
    pub generation: Option<u64>,
}

/// The active generation of an adapter, as the sidecar wants it announced.
pub struct ActiveAdapter {
    pub id: i64,
    pub header: AdapterHeader,
}

/// The session's role, and the active generation of `adapter`.
pub fn context(model: Option<&str>, adapter: Option<&str>) -> Result<Context, Error> {
    errand::ask(|| context_here(model, adapter))
}

fn context_here(model: Option<&str>, adapter: Option<&str>) -> Result<Context, Error> {
    if !is_installed()? {
        // As before adapters came: nothing is shared, and all callers count as one.
        return match adapter {
            None => Ok(Context::default()),
            Some(_) => Err(Error::OldSchema),
        };
    }
    Spi::connect(|client| {
        let row = client
            .select(
                "select * from salesai.generation_context($1, $2)",
                Some(1),
                &[model.into(), adapter.into()],
            )?
            .first();
        let (model, generation): (Option<String>, Option<i64>) =
            (column(&row, 3)?, column(&row, 4)?);
        Ok(Context {
            caller: column(&row, 1)?.unwrap_or_default(),
            cache_salt: column(&row, 2)?.unwrap_or_default(),
            adapter: model.map(|model| ContextAdapter {
                model,
                generation: generation
                    .map(i64::unsigned_abs)
                    .filter(|&number| number > 0),
            }),
        })
    })
}

/// The session's role as the sidecar knows it.
pub fn caller() -> Result<String, Error> {
    errand::ask(caller_here)
}

fn caller_here() -> Result<String, Error> {
    if !is_installed()? {
        return Ok(String::new());
    }
    Spi::connect(|client| {
        let row = client
            .select("select caller from salesai.caller()", Some(1), &[])?
            .first();
        Ok(column(&row, 1)?.unwrap_or_default())
    })
}

/// The generation of `name` that calls get now.
pub fn active_adapter(name: &str) -> Result<ActiveAdapter, Error> {
    Spi::connect(|client| {
        let rows = client.select(
            "select * from salesai.active_adapter($1)",
            Some(1),
            &[name.into()],
        )?;
        if rows.is_empty() {
            let name = name.to_owned();
            return Err(Error::NoAdapter { name });
        }
        let row = rows.first();
        let number = |ordinal| column::<i64>(&row, ordinal).map(Option::unwrap_or_default);
        let text = |ordinal| column::<String>(&row, ordinal).map(Option::unwrap_or_default);
        Ok(ActiveAdapter {
            id: number(1)?,
            header: AdapterHeader {
                name: name.to_owned(),
                generation: number(2)?.unsigned_abs(),
                model: ModelChoice::from(text(3)?),
                sha256: text(4)?,
                content_bytes: number(5)?.unsigned_abs(),
                config_json: text(6)?,
            },
        })
    })
}

/// One stored part; None behind the last. Only the owner may read it: callers run with owner rights.
pub fn part(adapter_id: i64, position: i32) -> Result<Option<Vec<u8>>, Error> {
    Spi::connect(|client| {
        let rows = client.select(
            "select content from salesai.adapter_part where adapter_id = $1 and position = $2",
            Some(1),
            &[adapter_id.into(), position.into()],
        )?;
        match rows.is_empty() {
            true => Ok(None),
            false => column(&rows.first(), 1),
        }
    })
}

/// How many parts are stored.
pub fn part_count(adapter_id: i64) -> Result<i64, Error> {
    Spi::connect(|client| {
        let row = client
            .select(
                "select count(*) from salesai.adapter_part where adapter_id = $1",
                Some(1),
                &[adapter_id.into()],
            )?
            .first();
        Ok(column(&row, 1)?.unwrap_or_default())
    })
}

/// Sends the active generation to the sidecar, through the SQL function, which has the owner's rights.
pub fn load(name: &str, deadline: Deadline) -> Result<(), Error> {
    let timeout_ms = i32::try_from(deadline.remaining().as_millis()).unwrap_or(i32::MAX);
    errand::ask(|| {
        Spi::connect(|client| {
            client.select(
                "select salesai.load_adapter($1, $2)",
                Some(1),
                &[name.into(), timeout_ms.max(1).into()],
            )?;
            Ok(())
        })
    })
}

/// False in a database whose schema is still 0.1.
fn is_installed() -> Result<bool, Error> {
    thread_local! {
        static IS_INSTALLED: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_INSTALLED.get() {
        let is_installed = Spi::connect(|client| {
            let row = client
                .select(
                    "select pg_catalog.to_regprocedure('salesai.generation_context(text, text)') is not null",
                    Some(1),
                    &[],
                )?
                .first();
            Ok::<_, Error>(column(&row, 1)?.unwrap_or(false))
        })?;
        IS_INSTALLED.set(is_installed);
    }
    Ok(IS_INSTALLED.get())
}

/// A column of the present row in Rust's own memory. pgrx's `get` would leave a second copy in the memory of
/// the transaction, where the parts of an adapter add up.
fn column<T: FromDatum>(row: &SpiTupleTable<'_>, ordinal: usize) -> Result<Option<T>, Error> {
    let datum = row.get_datum_by_ordinal(ordinal)?;
    // SAFETY: the datum belongs to this row, and the queries of this module return the types that they are
    // read as; what is detoasted lies in SPI's memory, which ends with the query.
    #[allow(unsafe_code)]
    Ok(datum.and_then(|datum| unsafe { T::from_datum(datum, false) }))
}
