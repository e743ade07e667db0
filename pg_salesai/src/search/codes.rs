//! The codes of an embedding set: a scan of all of them finds those whose cosine with a query can be greatest.

use kernels::{CodeQuery, CodeShape, Level};
use pgrx::Spi;

use super::code_table::for_each_row;
use super::plans;
use crate::error::Error;

/// A chunk, and what its cosine is at most, almost surely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub chunk_id: i64,
    pub bound: f32,
}

/// A query and the codes that it meets.
pub struct Codes {
    table: String,
    centre: Vec<f32>,
    shape: CodeShape,
    query: CodeQuery,
}

impl Codes {
    /// None where no vector of the set has a code yet. Needs the rights of the worker.
    pub fn load(set_id: i64, embedding: &[f32]) -> Result<Option<Self>, Error> {
        let query = "select i.centre from salesai.embedding_code_index i where i.set_id = $1";
        let centre = Spi::connect(|client| {
            let mut centre: Option<Vec<f32>> = None;
            for row in plans::select(client, query, &[set_id.into()])? {
                centre = row.get(1)?;
            }
            Ok::<_, Error>(centre)
        })?;
        let Some(centre) = centre else {
            return Ok(None);
        };
        if centre.len() != embedding.len() {
            return Err(Error::argument(
                "a vector of other dimensions than the set's",
            ));
        }
        let Some(shape) = CodeShape::new(centre.len()) else {
            return Err(Error::EmbeddingCodes);
        };
        Ok(Some(Self {
            table: table(set_id),
            query: CodeQuery::new(Level::best(), shape.clone(), &centre, embedding),
            shape,
            centre,
        }))
    }

    /// Whether both are around the same centre.
    pub fn agree(&self, other: &Self) -> bool {
        self.centre == other.centre
    }

    /// The `count` candidates of the greatest bounds, greatest first; with `among`, in order, only of those.
    pub fn candidates(&self, count: usize, among: Option<&[i64]>) -> Result<Vec<Candidate>, Error> {
        let mut best = Best::new(count);
        for_each_row(&self.table, |row| {
            self.query.expect(row);
            let groups = row.chunks_exact(self.shape.group_bytes());
            if !groups.remainder().is_empty() {
                return Err(Error::EmbeddingCodes);
            }
            for group in groups {
                let is_group = self
                    .query
                    .exceeding(group, best.threshold, |chunk_id, bound| {
                        if among.is_none_or(|among| among.binary_search(&chunk_id).is_ok()) {
                            best.push(Candidate { chunk_id, bound });
                        }
                    });
                if !is_group {
                    return Err(Error::EmbeddingCodes);
                }
            }
            Ok(())
        })?;
        Ok(best.into_sorted())
    }
}

/// The table of a set's codes.
pub fn table(set_id: i64) -> String {
    format!("embedding_{set_id}_codes")
}

/// The best of many: twice as many as are wanted are kept, and then half of them dropped.
struct Best {
    count: usize,
    kept: Vec<Candidate>,
    /// What is no better is of no use.
    threshold: f32,
}

impl Best {
    fn new(count: usize) -> Self {
        Self {
            count: count.max(1),
            kept: Vec::new(),
            threshold: f32::NEG_INFINITY,
        }
    }

    fn push(&mut self, candidate: Candidate) {
        self.kept.push(candidate);
        if self.kept.len() >= 2 * self.count {
            self.drop_half();
        }
    }

    fn drop_half(&mut self) {
        let last = self.count - 1;
        let (_, worst, _) = self.kept.select_nth_unstable_by(last, greater_first);
        self.threshold = worst.bound;
        self.kept.truncate(self.count);
    }

    fn into_sorted(mut self) -> Vec<Candidate> {
        self.kept.sort_unstable_by(greater_first);
        self.kept.truncate(self.count);
        self.kept
    }
}

fn greater_first(one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
    let by_bound = other.bound.total_cmp(&one.bound);
    by_bound.then(one.chunk_id.cmp(&other.chunk_id))
}
