//! Upkeep of the codes of embedding sets: vectors that wait are coded, and all anew when many codes are stale.

use kernels::{CodeShape, Encoder, GROUP_VECTORS};
use pgrx::Spi;
use pgrx::check_for_interrupts;
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;

use super::admission::text;
use crate::error::Error;

/// Fewer vectors are left to search, which reads each of them.
pub const VECTORS_MIN: i32 = 256;
/// Vectors that are coded by one statement.
const VECTORS_AT_ONCE: i64 = 4096;
/// What a page of PostgreSQL has for the codes of a row.
const ROW_BYTES_MAX: usize = 8100;
/// Stale codes that are too many: so many, and more than one in so many.
const STALE_MIN: i64 = 4096;
const STALE_SHARE: i64 = 4;
/// So many times the vectors that it is the mean of, and a centre is old.
const CENTRE_GROWTH: i64 = 16;

/// Codes vectors of a set that wait; false when no set has enough, or another process is at it.
pub fn merge_delta(vectors_min: i32) -> Result<bool, Error> {
    let query = "select i.set_id from salesai.embedding_code_index i
        where salesai.waiting_embeddings(i.set_id, $1) >= $1 order by i.set_id";
    for set_id in sets(query, &[vectors_min.into()])? {
        if merge(set_id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Codes all vectors of a set anew where many codes are stale, or the centre is of few; false when none is so.
pub fn renew_stale() -> Result<bool, Error> {
    let query = "select i.set_id from salesai.embedding_code_index i
        where i.stale_count >= $1 and i.stale_count * $2 > i.code_count or i.code_count > i.centre_count * $3
        order by i.set_id";
    let values = [STALE_MIN.into(), STALE_SHARE.into(), CENTRE_GROWTH.into()];
    for set_id in sets(query, &values)? {
        if renew(set_id, "for no key update skip locked")?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Codes all vectors of a set anew, after whoever else is at it.
pub fn renew_all(set_id: i64) -> Result<i64, Error> {
    let count = renew(set_id, "for no key update")?;
    count.ok_or_else(|| Error::argument("the embedding set has no codes"))
}

fn sets(query: &str, values: &[DatumWithOid<'_>]) -> Result<Vec<i64>, Error> {
    Spi::connect(|client| {
        let rows = client.select(query, None, values)?;
        rows.map(|row| Ok(row.get::<i64>(1)?.unwrap_or_default()))
            .collect()
    })
}

fn merge(set_id: i64) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let Some(index) = Index::lock(client, set_id, "for no key update skip locked")? else {
            return Ok(false);
        };
        let (ids, stale) = take_waiting(client, set_id)?;
        if ids.is_empty() {
            // All that wait are being changed.
            return Ok(false);
        }
        let (centre, centre_count) = match index.centre {
            Some(centre) => (Some(centre), 0),
            None => (index.mean(client, Some(&ids))?, ids.len() as i64),
        };
        let Some(centre) = centre else {
            // All of them are gone, and there was none before.
            return Ok(true);
        };
        let some = statement(set_id, "some")?;
        let vectors = vectors(client, &some, &[ids.into()])?;
        let mut writer = Writer::new(set_id, &centre)?;
        writer.write(client, &vectors)?;
        let query = "update salesai.embedding_code_index i
            set centre = $2, centre_count = i.centre_count + $3, code_count = i.code_count + $4,
                stale_count = i.stale_count + $5 where i.set_id = $1";
        let values = [
            set_id.into(),
            centre.into(),
            centre_count.into(),
            writer.count.into(),
            stale.into(),
        ];
        client.update(query, None, &values)?;
        Ok(true)
    })
}

/// None when another process is at it. Search sees the old codes until this commits.
fn renew(set_id: i64, lock: &str) -> Result<Option<i64>, Error> {
    let begun = Spi::connect_mut(|client| {
        let Some(index) = Index::lock(client, set_id, lock)? else {
            return Ok::<_, Error>(None);
        };
        let waiting = Waiting::of(client, set_id)?;
        let clear = statement(set_id, "clear")?;
        client.update(clear.as_str(), None, &[])?;
        Ok(Some((waiting, index.mean(client, None)?)))
    })?;
    let Some((waiting, centre)) = begun else {
        return Ok(None);
    };
    let mut count = 0;
    if let Some(centre) = &centre {
        let mut last = i64::MIN;
        // What a connection to SPI has read is freed at its end.
        while let Some(batch) = Spi::connect_mut(|client| code_next(client, set_id, centre, last))?
        {
            check_for_interrupts!();
            last = batch.last;
            count += batch.count;
        }
    }
    Spi::connect_mut(|client| {
        waiting.forget(client, set_id)?;
        let query = "update salesai.embedding_code_index i
            set centre = $2, centre_count = $3, code_count = $3, stale_count = 0 where i.set_id = $1";
        client.update(query, None, &[set_id.into(), centre.into(), count.into()])?;
        Ok(Some(count))
    })
}

/// Vectors that were coded.
struct Batch {
    last: i64,
    count: i64,
}

/// Codes the vectors after a chunk; None where there is none.
fn code_next(
    client: &mut SpiClient<'_>,
    set_id: i64,
    centre: &[f32],
    after: i64,
) -> Result<Option<Batch>, Error> {
    let next = statement(set_id, "next")?;
    let vectors = vectors(client, &next, &[after.into(), VECTORS_AT_ONCE.into()])?;
    let Some((last, _)) = vectors.last() else {
        return Ok(None);
    };
    let mut writer = Writer::new(set_id, centre)?;
    writer.write(client, &vectors)?;
    Ok(Some(Batch {
        last: *last,
        count: writer.count,
    }))
}

/// What waits, and how often each has changed so far.
struct Waiting {
    ids: Vec<i64>,
    changes: Vec<i32>,
}

impl Waiting {
    fn of(client: &SpiClient<'_>, set_id: i64) -> Result<Self, Error> {
        let query =
            "select d.chunk_id, d.changes from salesai.embedding_delta d where d.set_id = $1";
        let (mut ids, mut changes) = (Vec::new(), Vec::new());
        for row in client.select(query, None, &[set_id.into()])? {
            ids.push(row.get(1)?.unwrap_or_default());
            changes.push(row.get(2)?.unwrap_or_default());
        }
        Ok(Self { ids, changes })
    }

    /// After they were coded. Those that have changed since, or are being changed, go on waiting. Until now nobody who
    /// changes one had to wait.
    fn forget(self, client: &mut SpiClient<'_>, set_id: i64) -> Result<(), Error> {
        let query = "delete from salesai.embedding_delta d
            where d.set_id = $1 and d.chunk_id in (
                select o.chunk_id from unnest($2, $3) u (chunk_id, changes)
                join salesai.embedding_delta o on o.set_id = $1 and o.chunk_id = u.chunk_id and o.changes = u.changes
                for update of o skip locked)";
        let values = [set_id.into(), self.ids.into(), self.changes.into()];
        client.update(query, None, &values)?;
        Ok(())
    }
}

/// The row of a set, locked.
struct Index {
    set_id: i64,
    centre: Option<Vec<f32>>,
}

impl Index {
    /// None where somebody else has it, or there is none.
    fn lock(client: &mut SpiClient<'_>, set_id: i64, lock: &str) -> Result<Option<Self>, Error> {
        let query = format!(
            "select i.centre from salesai.embedding_code_index i where i.set_id = $1 {lock}"
        );
        let mut index = None;
        for row in client.update(query.as_str(), Some(1), &[set_id.into()])? {
            index = Some(Self {
                set_id,
                centre: row.get(1)?,
            });
        }
        Ok(index)
    }

    /// The mean of some vectors, or of all; None where there are none.
    fn mean(&self, client: &SpiClient<'_>, of: Option<&[i64]>) -> Result<Option<Vec<f32>>, Error> {
        let mean = statement(self.set_id, "mean")?;
        let mut centre = None;
        for row in client.select(mean.as_str(), Some(1), &[of.map(<[i64]>::to_vec).into()])? {
            centre = row.get(1)?;
        }
        Ok(centre)
    }
}

/// Takes vectors that wait, and says how many of them had a code. A row that somebody holds is being changed.
fn take_waiting(client: &mut SpiClient<'_>, set_id: i64) -> Result<(Vec<i64>, i64), Error> {
    let query = "with waiting as (
             select d.chunk_id from salesai.embedding_delta d where d.set_id = $1 order by d.chunk_id limit $2
             for update skip locked)
         delete from salesai.embedding_delta d using waiting w
         where d.set_id = $1 and d.chunk_id = w.chunk_id
         returning d.chunk_id, d.is_new";
    let (mut ids, mut stale) = (Vec::new(), 0);
    for row in client.update(query, None, &[set_id.into(), VECTORS_AT_ONCE.into()])? {
        ids.extend(row.get::<i64>(1)?);
        stale += i64::from(row.get(2)? == Some(false));
    }
    Ok((ids, stale))
}

fn statement(set_id: i64, which: &str) -> Result<String, Error> {
    let query = "select salesai.code_statement($1, $2)";
    Ok(text(query, &[set_id.into(), which.into()])?.unwrap_or_default())
}

fn vectors(
    client: &SpiClient<'_>,
    statement: &str,
    values: &[DatumWithOid<'_>],
) -> Result<Vec<(i64, Vec<f32>)>, Error> {
    let mut vectors = Vec::new();
    for row in client.select(statement, None, values)? {
        if let (Some(id), Some(vector)) = (row.get(1)?, row.get(2)?) {
            vectors.push((id, vector));
        }
    }
    Ok(vectors)
}

/// Writes codes in rows that fill a page each.
struct Writer {
    statement: String,
    encoder: Encoder,
    row_vectors: usize,
    count: i64,
}

impl Writer {
    fn new(set_id: i64, centre: &[f32]) -> Result<Self, Error> {
        let shape = CodeShape::new(centre.len()).ok_or(Error::EmbeddingCodes)?;
        Ok(Self {
            statement: statement(set_id, "write")?,
            row_vectors: ROW_BYTES_MAX / shape.group_bytes() * GROUP_VECTORS,
            encoder: Encoder::new(shape, centre.to_vec()),
            count: 0,
        })
    }

    fn write(
        &mut self,
        client: &mut SpiClient<'_>,
        vectors: &[(i64, Vec<f32>)],
    ) -> Result<(), Error> {
        let mut rows = Vec::new();
        for part in vectors.chunks(self.row_vectors) {
            let mut codes = Vec::new();
            let part: Vec<(i64, &[f32])> = part
                .iter()
                .map(|(id, vector)| (*id, vector.as_slice()))
                .collect();
            for group in part.chunks(GROUP_VECTORS) {
                self.encoder.encode(group, &mut codes);
            }
            rows.push(codes);
        }
        if !rows.is_empty() {
            client.update(self.statement.as_str(), None, &[rows.into()])?;
        }
        self.count += vectors.len() as i64;
        Ok(())
    }
}
