//! What models made, by the digest of all that it depends on: `sql/schema/48_result_cache.sql`.

use std::collections::HashMap;

use pgrx::{Spi, pg_sys};
use sha2::{Digest, Sha256};

use crate::config;
use crate::errand;
use crate::error::Error;
use crate::rights::WorkerRights;
use crate::schema;

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

/// The results as they are used until something is deleted.
pub struct ResultCache {
    epoch: i64,
}

impl ResultCache {
    /// None where results are not looked for: it is turned off, here is a standby, the schema is older, or what is read
    /// and written would keep serializable transactions from each other.
    pub fn open() -> Result<Option<Self>, Error> {
        errand::ask(Self::open_here)
    }

    fn open_here() -> Result<Option<Self>, Error> {
        // SAFETY: reads this backend's state.
        #[allow(unsafe_code)]
        let is_fit = unsafe {
            !pg_sys::RecoveryInProgress()
                && pg_sys::XactIsoLevel != pg_sys::XACT_SERIALIZABLE as i32
        };
        if !config::result_cache() || !is_fit || !schema::has_relation("salesai.result_cache")? {
            return Ok(None);
        }
        let _rights = WorkerRights::assume();
        let epoch = Spi::connect(|client| {
            let question = "select last_value + is_called::integer from salesai.result_epoch";
            client
                .select(question, Some(1), &[])?
                .first()
                .get_one::<i64>()
        })?;
        Ok(epoch.map(|epoch| Self { epoch }))
    }

    /// Those of the results that are there; the same may have been kept more than once.
    pub fn read(&self, keys: &[Key]) -> Result<HashMap<Key, Vec<Vec<u8>>>, Error> {
        errand::ask(|| self.read_here(keys))
    }

    fn read_here(&self, keys: &[Key]) -> Result<HashMap<Key, Vec<Vec<u8>>>, Error> {
        let _rights = WorkerRights::assume();
        let mut found: HashMap<Key, Vec<Vec<u8>>> = HashMap::new();
        for keys in keys.chunks(KEYS_MAX) {
            Spi::connect(|client| {
                let rows = client.select(
                    "select key, value from salesai.result_cache
                     where key = any ($1) and epoch = $2 and made_at > now() - interval '7 days'",
                    None,
                    &[keys.to_vec().into(), self.epoch.into()],
                )?;
                for row in rows {
                    if let (Some(key), Some(value)) =
                        (row.get::<Vec<u8>>(1)?, row.get::<Vec<u8>>(2)?)
                    {
                        found.entry(key).or_default().push(value);
                    }
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(found)
    }

    /// Keeps results, unless the transaction may not write.
    pub fn write(&self, results: Vec<(Key, Vec<u8>)>) -> Result<(), Error> {
        errand::ask(|| self.write_here(results))
    }

    fn write_here(&self, results: Vec<(Key, Vec<u8>)>) -> Result<(), Error> {
        // SAFETY: reads this backend's state.
        #[allow(unsafe_code)]
        let is_read_only = unsafe { pg_sys::XactReadOnly || pg_sys::IsInParallelMode() };
        if is_read_only || results.is_empty() {
            return Ok(());
        }
        let (keys, values): (Vec<Key>, Vec<Vec<u8>>) = results.into_iter().unzip();
        let _rights = WorkerRights::assume();
        Spi::run_with_args(
            "insert into salesai.result_cache (key, value, epoch)
             select k, v, $3 from unnest($1::bytea[], $2::bytea[]) u (k, v)",
            &[keys.into(), values.into(), self.epoch.into()],
        )?;
        Ok(())
    }
}
