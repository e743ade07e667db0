//! What models made, by the digest of all that it depends on: `sql/schema/48_result_cache.sql`.

use std::cell::Cell;
use std::collections::HashMap;

use pgrx::{Spi, pg_sys};
use sha2::{Digest, Sha256};

use crate::config;
use crate::error::Error;
use crate::rights::WorkerRights;

/// SHA-256 over the kind of result and what it depends on, each with its length.
pub type Key = Vec<u8>;

/// Keys of one query.
const KEYS_MAX: usize = 1_000;

pub fn key<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
    let mut digest = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts) {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}

/// Whether results are looked for here and now.
pub fn is_used() -> Result<bool, Error> {
    // SAFETY: reads this backend's state.
    #[allow(unsafe_code)]
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    Ok(config::result_cache() && !is_standby && is_installed()?)
}

/// Those of the results that are there.
pub fn read(keys: &[Key]) -> Result<HashMap<Key, Vec<u8>>, Error> {
    let _rights = WorkerRights::assume();
    let mut found = HashMap::new();
    for keys in keys.chunks(KEYS_MAX) {
        Spi::connect(|client| {
            let rows = client.select(
                "select key, value from salesai.result_cache where key = any ($1)",
                None,
                &[keys.to_vec().into()],
            )?;
            for row in rows {
                if let (Some(key), Some(value)) = (row.get::<Vec<u8>>(1)?, row.get::<Vec<u8>>(2)?) {
                    found.insert(key, value);
                }
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(found)
}

/// Keeps results, unless the transaction may not write.
pub fn write(results: Vec<(Key, Vec<u8>)>) -> Result<(), Error> {
    // SAFETY: a flag of this backend.
    #[allow(unsafe_code)]
    let is_read_only = unsafe { pg_sys::XactReadOnly };
    if is_read_only || results.is_empty() {
        return Ok(());
    }
    let (keys, values): (Vec<Key>, Vec<Vec<u8>>) = results.into_iter().unzip();
    let _rights = WorkerRights::assume();
    Spi::run_with_args(
        "insert into salesai.result_cache (key, value) select * from unnest($1::bytea[], $2::bytea[])",
        &[keys.into(), values.into()],
    )?;
    Ok(())
}

/// False in a database whose schema is older.
fn is_installed() -> Result<bool, Error> {
    thread_local! {
        static IS_INSTALLED: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_INSTALLED.get() {
        let question = "select pg_catalog.to_regclass('salesai.result_cache') is not null";
        IS_INSTALLED.set(Spi::get_one::<bool>(question)?.unwrap_or(false));
    }
    Ok(IS_INSTALLED.get())
}
