//! The chunks nearest to a vector by cosine.

use pgrx::Spi;
use pgrx::spi::SpiClient;

use super::admission::{Condition, admitted, text};
use crate::error::Error;
use crate::rights::WorkerRights;

/// Vectors that are taken from the index after the first time, which takes as many as are wanted.
const BATCH: i64 = 200;

/// A chunk and the cosine of its vector and the query's.
pub type Similarity = (i64, f32);

/// What is looked for.
pub struct Request<'a> {
    pub set_id: i64,
    pub embedding: Vec<f32>,
    /// Which chunks the caller wants.
    pub condition: &'a Condition,
    /// Where it is known already which chunks fulfil it: those.
    pub among: Option<Vec<i64>>,
    pub limit: usize,
}

/// The nearest chunks, nearest first.
pub fn hits(request: Request<'_>) -> Result<Vec<Similarity>, Error> {
    let query = text(
        "select salesai.nearest_query($1, $2)",
        &[request.set_id.into(), request.among.is_some().into()],
    )?;
    let query = query.ok_or_else(|| Error::argument("there is no such embedding set"))?;
    match request.among {
        Some(among) => exact(
            &query,
            request.embedding,
            among,
            request.condition,
            request.limit,
        ),
        None => by_index(&query, request.embedding, request.condition, request.limit),
    }
}

/// All of them are compared.
fn exact(
    query: &str,
    embedding: Vec<f32>,
    among: Vec<i64>,
    condition: &Condition,
    limit: usize,
) -> Result<Vec<Similarity>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = {
        let _rights = WorkerRights::assume();
        Spi::connect(|client| {
            let values = [embedding.into(), among.into(), limit.into()];
            client
                .select(query, None, &values)?
                .map(|row| similarity(row.get(1)?, row.get(2)?))
                .collect::<Result<Vec<Similarity>, Error>>()
        })?
    };
    admit(&mut found, condition)?;
    Ok(found)
}

/// The index goes on for as long as the caller lacks some.
fn by_index(
    query: &str,
    embedding: Vec<f32>,
    condition: &Condition,
    limit: usize,
) -> Result<Vec<Similarity>, Error> {
    Spi::connect(|client| {
        let mut cursor = {
            let _rights = WorkerRights::assume();
            open(client, query, embedding)?
        };
        let mut all = Vec::new();
        let mut wanted = i64::try_from(limit).unwrap_or(BATCH);
        loop {
            let mut batch = {
                let _rights = WorkerRights::assume();
                cursor
                    .fetch(wanted)?
                    .map(|row| similarity(row.get(1)?, row.get(2)?))
                    .collect::<Result<Vec<Similarity>, Error>>()?
            };
            let is_last = (batch.len() as i64) < wanted;
            admit(&mut batch, condition)?;
            all.append(&mut batch);
            if is_last || all.len() >= limit {
                all.truncate(limit);
                return Ok(all);
            }
            wanted = BATCH;
        }
    })
}

fn open<'a>(
    client: &'a SpiClient<'_>,
    query: &str,
    embedding: Vec<f32>,
) -> Result<pgrx::spi::SpiCursor<'a>, Error> {
    Ok(client.open_cursor(query, &[embedding.into()]))
}

fn admit(found: &mut Vec<Similarity>, condition: &Condition) -> Result<(), Error> {
    let ids = found.iter().map(|(id, _)| *id).collect();
    let admitted = admitted(ids, condition)?;
    found.retain(|(id, _)| admitted.contains(id));
    Ok(())
}

fn similarity(chunk_id: Option<i64>, distance: Option<f64>) -> Result<Similarity, Error> {
    let cosine = 1.0 - distance.unwrap_or(2.0) as f32;
    Ok((chunk_id.unwrap_or_default(), cosine))
}
