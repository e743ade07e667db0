//! The chunks nearest to a vector by cosine.

use std::collections::{HashMap, HashSet};

use domain::top::{Hit, Top};
use pgrx::Spi;
use pgrx::spi::{SpiClient, SpiCursor, SpiHeapTupleData};

use super::admission::{Condition, admit, admitted, more};
use super::codes::Codes;
use super::plans;
use crate::error::Error;
use crate::rights::WorkerRights;

/// Vectors that are taken from an HNSW index after the first time, which takes as many as are wanted.
const BATCH: i64 = 200;
/// Chunks that are all compared as they are, where it is known which ones count; of more, codes are looked at first.
const COMPARED_MAX: usize = 2000;
/// Candidates of a scan of the codes: so many for each chunk that is wanted, and at least so many.
const CANDIDATES_PER_CHUNK: usize = 8;
const CANDIDATES_MIN: usize = 1024;
/// So many are looked for at least: bounds are loose at the end of what is looked for, where a tenth may be missed.
const WANTED_MIN: usize = 100;
/// Candidates that are compared as they are by one statement.
const COMPARED_AT_ONCE: usize = 128;

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

/// The nearest chunks, nearest first; scores are cosines.
pub fn hits(mut request: Request<'_>) -> Result<Vec<Hit>, Error> {
    let Some(set) = Set::load(request.set_id)? else {
        return Err(Error::argument("there is no such embedding set"));
    };
    match request.among.take() {
        Some(among) if among.len() <= COMPARED_MAX || !set.has_codes => exact(&set, request, among),
        Some(mut among) => {
            among.sort_unstable();
            by_codes(&set, request, Some(&among))
        }
        None if set.has_codes => by_codes(&set, request, None),
        None => by_graph(&set, request),
    }
}

/// What is known of an embedding set.
struct Set {
    has_codes: bool,
    /// The statement that compares the query with the vectors of some chunks.
    compare: String,
    /// The one that follows the HNSW index, where there is one.
    follow: String,
}

impl Set {
    fn load(set_id: i64) -> Result<Option<Self>, Error> {
        let query = "select s.index_method = 'codes', salesai.nearest_query(s.id, true),
                case when s.index_method = 'hnsw' then salesai.nearest_query(s.id, false) end
            from salesai.embedding_set s where s.id = $1";
        Spi::connect(|client| {
            let mut set = None;
            for row in plans::select(client, query, &[set_id.into()])? {
                set = Some(Self {
                    has_codes: row.get(1)?.unwrap_or(false),
                    compare: row.get(2)?.unwrap_or_default(),
                    follow: row.get(3)?.unwrap_or_default(),
                });
            }
            Ok(set)
        })
    }
}

/// All of them are compared.
fn exact(set: &Set, request: Request<'_>, among: Vec<i64>) -> Result<Vec<Hit>, Error> {
    let all = i64::try_from(among.len()).unwrap_or(i64::MAX);
    let nearest = {
        let _rights = WorkerRights::assume();
        Spi::connect(|client| {
            let values = [request.embedding.into(), among.into(), all.into()];
            plans::select(client, &set.compare, &values)?
                .map(|row| hit(&row))
                .collect::<Result<Vec<Hit>, Error>>()
        })?
    };
    // Whoever calls may name what is none of theirs, which must not take the place of what is.
    let mut found = Vec::new();
    for part in nearest.chunks(request.limit.max(1)) {
        let mut part = part.to_vec();
        admit(&mut part, request.condition)?;
        found.append(&mut part);
        if found.len() >= request.limit {
            found.truncate(request.limit);
            break;
        }
    }
    Ok(found)
}

/// The codes are scanned for more candidates as long as the caller lacks some.
fn by_codes(set: &Set, request: Request<'_>, among: Option<&[i64]>) -> Result<Vec<Hit>, Error> {
    let mut comparison = {
        let _rights = WorkerRights::assume();
        Comparison::new(request.set_id, set, &request.embedding, among)?
    };
    let mut admission: HashMap<i64, bool> = HashMap::new();
    let mut wanted = request.limit.max(WANTED_MIN);
    loop {
        let nearest = {
            let _rights = WorkerRights::assume();
            comparison.nearest(wanted)?
        };
        let ids = nearest.iter().map(|hit| hit.document);
        let unknown: Vec<i64> = ids.filter(|id| !admission.contains_key(id)).collect();
        let admitted = admitted(unknown.clone(), request.condition)?;
        admission.extend(unknown.into_iter().map(|id| (id, admitted.contains(&id))));
        let is_all = nearest.len() < wanted;
        let mut found = nearest;
        found.retain(|hit| admission.get(&hit.document) == Some(&true));
        if is_all || found.len() >= request.limit {
            found.truncate(request.limit);
            return Ok(found);
        }
        wanted = more(wanted, found.len(), request.limit);
    }
}

/// Candidates of a query, as far as they were compared.
struct Comparison<'a> {
    set: &'a Set,
    embedding: &'a [f32],
    codes: Option<Codes>,
    among: Option<&'a [i64]>,
    /// Of vectors that have no code, or another one's.
    waiting: Vec<i64>,
    /// Of all that were compared; None where there is no vector any more.
    cosines: HashMap<i64, Option<f32>>,
}

impl<'a> Comparison<'a> {
    fn new(
        set_id: i64,
        set: &'a Set,
        embedding: &'a [f32],
        among: Option<&'a [i64]>,
    ) -> Result<Self, Error> {
        let query = "select d.chunk_id from salesai.embedding_delta d where d.set_id = $1";
        let mut waiting: Vec<i64> = Spi::connect(|client| {
            let rows = plans::select(client, query, &[set_id.into()])?;
            rows.map(|row| Ok(row.get::<i64>(1)?.unwrap_or_default()))
                .collect::<Result<_, Error>>()
        })?;
        if let Some(among) = among {
            waiting.retain(|id| among.binary_search(id).is_ok());
        }
        Ok(Self {
            set,
            embedding,
            // After what waits: what is coded between the two is then found twice, and not missed.
            codes: Codes::load(set_id, embedding)?,
            among,
            waiting,
            cosines: HashMap::new(),
        })
    }

    /// The nearest chunks, nearest first; fewer than `count` when there are no more.
    fn nearest(&mut self, count: usize) -> Result<Vec<Hit>, Error> {
        let mut candidates_max = CANDIDATES_MIN.max(count.saturating_mul(CANDIDATES_PER_CHUNK));
        loop {
            let candidates = self.candidates(candidates_max)?;
            let is_all = candidates.len() < candidates_max;
            let nearest = self.nearest_of(candidates, count)?;
            if is_all || nearest.len() >= count {
                return Ok(nearest);
            }
            // Many codes are of vectors that are gone.
            candidates_max = candidates_max.saturating_mul(4);
        }
    }

    fn candidates(&mut self, count: usize) -> Result<Vec<Hit>, Error> {
        match &mut self.codes {
            Some(codes) => codes.candidates(self.embedding, count, self.among),
            None => Ok(Vec::new()),
        }
    }

    fn nearest_of(&mut self, mut candidates: Vec<Hit>, count: usize) -> Result<Vec<Hit>, Error> {
        let mut seen: HashSet<i64> = self.waiting.iter().copied().collect();
        candidates.retain(|candidate| seen.insert(candidate.document));
        Spi::connect(|client| {
            let mut nearest = Top::new(count);
            self.compare(client, &self.waiting.clone(), &mut nearest)?;
            let mut rest = candidates.as_slice();
            // The first time about as many as it mostly takes.
            let mut at_once = count.saturating_mul(2);
            while let Some(Hit { score: bound, .. }) = rest.first()
                && *bound > nearest.threshold()
            {
                let (batch, later) = rest.split_at(at_once.min(rest.len()));
                let ids: Vec<i64> = batch.iter().map(|candidate| candidate.document).collect();
                self.compare(client, &ids, &mut nearest)?;
                rest = later;
                at_once = COMPARED_AT_ONCE;
            }
            Ok(nearest.into_hits())
        })
    }

    /// Adds those that have a vector; compares those that were not yet.
    fn compare(
        &mut self,
        client: &SpiClient<'_>,
        ids: &[i64],
        nearest: &mut Top,
    ) -> Result<(), Error> {
        let is_new = |id: &i64| !self.cosines.contains_key(id);
        let new: Vec<i64> = ids.iter().copied().filter(is_new).collect();
        if !new.is_empty() {
            self.cosines.extend(new.iter().map(|id| (*id, None)));
            let all = i64::try_from(new.len()).unwrap_or(i64::MAX);
            let values = [self.embedding.to_vec().into(), new.into(), all.into()];
            for row in plans::select(client, &self.set.compare, &values)? {
                let Hit { document, score } = hit(&row)?;
                self.cosines.insert(document, Some(score));
            }
        }
        for &document in ids {
            if let Some(&Some(score)) = self.cosines.get(&document) {
                nearest.push(Hit { document, score });
            }
        }
        Ok(())
    }
}

/// The HNSW index goes on for as long as the caller lacks some.
fn by_graph(set: &Set, request: Request<'_>) -> Result<Vec<Hit>, Error> {
    Spi::connect(|client| {
        let mut cursor = {
            let _rights = WorkerRights::assume();
            open(client, &set.follow, request.embedding)?
        };
        let mut all = Vec::new();
        let mut wanted = i64::try_from(request.limit).unwrap_or(BATCH);
        loop {
            let mut batch = {
                let _rights = WorkerRights::assume();
                cursor
                    .fetch(wanted)?
                    .map(|row| hit(&row))
                    .collect::<Result<Vec<Hit>, Error>>()?
            };
            let is_last = (batch.len() as i64) < wanted;
            admit(&mut batch, request.condition)?;
            all.append(&mut batch);
            if is_last || all.len() >= request.limit {
                all.truncate(request.limit);
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
) -> Result<SpiCursor<'a>, Error> {
    Ok(client.open_cursor(query, &[embedding.into()]))
}

/// Of a row of a chunk and its distance.
fn hit(row: &SpiHeapTupleData<'_>) -> Result<Hit, Error> {
    Ok(Hit {
        document: row.get(1)?.unwrap_or_default(),
        score: 1.0 - row.get::<f64>(2)?.unwrap_or(2.0) as f32,
    })
}
