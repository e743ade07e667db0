//! The codes of an embedding set: a scan of all of them finds those whose cosine with a query can be greatest.

use domain::top::{Hit, Top};
use kernels::{CodeQuery, CodeShape, Level};
use pgrx::Spi;

use super::code_table::{for_each_row, reads_anew};
use super::plans;
use crate::error::Error;

/// A query and the codes that it meets.
pub struct Codes {
    set_id: i64,
    centre: Vec<f32>,
    query: CodeQuery,
}

impl Codes {
    /// None where no vector of the set has a code yet. Needs the rights of the worker, as all below.
    pub fn load(set_id: i64, embedding: &[f32]) -> Result<Option<Self>, Error> {
        match centre(set_id)? {
            Some(centre) => Ok(Some(Self::new(set_id, centre, embedding)?)),
            None => Ok(None),
        }
    }

    fn new(set_id: i64, centre: Vec<f32>, embedding: &[f32]) -> Result<Self, Error> {
        if centre.len() != embedding.len() {
            return Err(Error::argument(
                "a vector of other dimensions than the set's",
            ));
        }
        let shape = CodeShape::new(centre.len()).ok_or(Error::EmbeddingCodes)?;
        Ok(Self {
            set_id,
            query: CodeQuery::new(Level::best(), shape, &centre, embedding),
            centre,
        })
    }

    /// The `count` chunks of the greatest bounds, greatest first: a hit's score is what its cosine is at most, almost
    /// surely. With `among`, in order, only of those.
    pub fn candidates(
        &mut self,
        embedding: &[f32],
        count: usize,
        among: Option<&[i64]>,
    ) -> Result<Vec<Hit>, Error> {
        loop {
            let candidates = self.scan(count, among)?;
            if !reads_anew() {
                return Ok(candidates);
            }
            // They may have been made anew, around another centre, before they were scanned.
            match centre(self.set_id)? {
                Some(now) if now != self.centre => *self = Self::new(self.set_id, now, embedding)?,
                _ => return Ok(candidates),
            }
        }
    }

    fn scan(&self, count: usize, among: Option<&[i64]>) -> Result<Vec<Hit>, Error> {
        let mut top = Top::new(count);
        let group_bytes = self.query.group_bytes();
        for_each_row(&format!("embedding_{}_codes", self.set_id), |row, next| {
            for (number, group) in row.chunks(group_bytes).enumerate() {
                if let Some(next) = next {
                    self.query.expect(next.wrapping_add(number * group_bytes));
                }
                let threshold = top.threshold();
                let is_group = self.query.exceeding(group, threshold, |document, score| {
                    if among.is_none_or(|among| among.binary_search(&document).is_ok()) {
                        top.push(Hit { document, score });
                    }
                });
                if !is_group {
                    return Err(Error::EmbeddingCodes);
                }
            }
            Ok(())
        })?;
        Ok(top.into_hits())
    }
}

/// What the codes of a set are around.
fn centre(set_id: i64) -> Result<Option<Vec<f32>>, Error> {
    let query = "select i.centre from salesai.embedding_code_index i where i.set_id = $1";
    Spi::connect(|client| {
        let mut centre = None;
        for row in plans::select(client, query, &[set_id.into()])? {
            centre = row.get(1)?;
        }
        Ok(centre)
    })
}
