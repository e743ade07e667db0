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
/// The same where some are not wanted: a second scan takes longer than keeping more.
const FILTERED_CANDIDATES_MIN: usize = 8192;
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
        Comparison::new(&request, set, among)?
    };
    let wanted = request.limit.max(WANTED_MIN);
    comparison.asks_first = among.is_none() && !request.condition.admits_all()?;
    let usual = match comparison.asks_first {
        true => FILTERED_CANDIDATES_MIN,
        false => CANDIDATES_MIN,
    };
    let mut candidates_max = usual.max(wanted.saturating_mul(CANDIDATES_PER_CHUNK));
    loop {
        let candidates = comparison.candidates(candidates_max)?;
        let is_all = candidates.len() < candidates_max;
        let nearest = comparison.nearest(candidates, wanted)?;
        if is_all || nearest.is_sure {
            let mut hits = nearest.hits;
            let may_displace = !comparison.asks_first && hits.len() >= wanted;
            if !comparison.asks_first {
                admit(&mut hits, request.condition)?;
            }
            if hits.len() >= request.limit || !may_displace {
                hits.truncate(request.limit);
                return Ok(hits);
            }
            // Something went meanwhile, or the caller named what is none of theirs: it took the place of what is.
            comparison.asks_first = true;
            comparison.cosines.clear();
        }
        // Few candidates are the caller's, or many codes are of vectors that are gone.
        let needed = wanted.saturating_mul(CANDIDATES_PER_CHUNK);
        candidates_max = more(candidates_max, nearest.admitted, needed);
    }
}

/// Candidates of a query, as far as they were compared.
struct Comparison<'a> {
    set: &'a Set,
    embedding: &'a [f32],
    condition: &'a Condition,
    /// Whose a candidate is is asked before it is compared, which takes longer; else of the nearest alone.
    asks_first: bool,
    codes: Option<Codes>,
    among: Option<&'a [i64]>,
    /// Of vectors that have no code, or another one's.
    waiting: Vec<i64>,
    /// Of all that were asked for; None where it is not the caller's, or there is no vector any more.
    cosines: HashMap<i64, Option<f32>>,
}

/// What came of some candidates.
struct Nearest {
    hits: Vec<Hit>,
    /// How many candidates were the caller's.
    admitted: usize,
    /// More candidates would, almost surely, change nothing.
    is_sure: bool,
}

impl<'a> Comparison<'a> {
    fn new(
        request: &'a Request<'a>,
        set: &'a Set,
        among: Option<&'a [i64]>,
    ) -> Result<Self, Error> {
        let query = "select d.chunk_id from salesai.embedding_delta d where d.set_id = $1";
        let mut waiting: Vec<i64> = Spi::connect(|client| {
            let rows = plans::select(client, query, &[request.set_id.into()])?;
            rows.map(|row| Ok(row.get::<i64>(1)?.unwrap_or_default()))
                .collect::<Result<_, Error>>()
        })?;
        if let Some(among) = among {
            waiting.retain(|id| among.binary_search(id).is_ok());
        }
        Ok(Self {
            set,
            embedding: &request.embedding,
            condition: request.condition,
            asks_first: false,
            // After what waits: what is coded between the two is then found twice, and not missed.
            codes: Codes::load(request.set_id, &request.embedding)?,
            among,
            waiting,
            cosines: HashMap::new(),
        })
    }

    fn candidates(&mut self, count: usize) -> Result<Vec<Hit>, Error> {
        let _rights = WorkerRights::assume();
        match &mut self.codes {
            Some(codes) => codes.candidates(self.embedding, count, self.among),
            None => Ok(Vec::new()),
        }
    }

    /// The nearest of those that the caller may see and wants, as far as that is asked here, nearest first.
    fn nearest(&mut self, mut candidates: Vec<Hit>, wanted: usize) -> Result<Nearest, Error> {
        let mut seen: HashSet<i64> = self.waiting.iter().copied().collect();
        candidates.retain(|candidate| seen.insert(candidate.document));
        let mut nearest = Top::new(wanted);
        let waiting = self.waiting.clone();
        // No candidates: they say nothing of how many of those are the caller's.
        self.compare(&waiting, &mut nearest)?;
        let mut admitted = 0;
        let least = candidates.last().map(|candidate| candidate.score);
        let mut rest = candidates.as_slice();
        // The first time about as many as it mostly takes.
        let mut at_once = wanted.saturating_mul(2);
        while let Some(Hit { score: bound, .. }) = rest.first()
            && *bound > nearest.threshold()
        {
            let (batch, later) = rest.split_at(at_once.min(rest.len()));
            let ids: Vec<i64> = batch.iter().map(|candidate| candidate.document).collect();
            let compared = self.compare(&ids, &mut nearest)?;
            admitted += compared;
            rest = later;
            // As many as bring about so many comparisons.
            at_once = (COMPARED_AT_ONCE * batch.len() / compared.max(1)).min(8 * batch.len());
        }
        let is_past = least.is_some_and(|bound| bound <= nearest.threshold());
        Ok(Nearest {
            hits: nearest.into_hits(),
            admitted,
            is_sure: is_past || admitted >= wanted.saturating_mul(CANDIDATES_PER_CHUNK),
        })
    }

    /// Adds those that are the caller's and have a vector, and tells how many; looks at those that it did not yet.
    fn compare(&mut self, ids: &[i64], nearest: &mut Top) -> Result<usize, Error> {
        let is_new = |id: &i64| !self.cosines.contains_key(id);
        let new: Vec<i64> = ids.iter().copied().filter(is_new).collect();
        self.cosines.extend(new.iter().map(|id| (*id, None)));
        let admitted = match self.asks_first {
            true => admitted(new, self.condition)?.into_iter().collect(),
            false => new,
        };
        if !admitted.is_empty() {
            let _rights = WorkerRights::assume();
            Spi::connect(|client| {
                let all = i64::try_from(admitted.len()).unwrap_or(i64::MAX);
                let values = [self.embedding.to_vec().into(), admitted.into(), all.into()];
                for row in plans::select(client, &self.set.compare, &values)? {
                    let Hit { document, score } = hit(&row)?;
                    self.cosines.insert(document, Some(score));
                }
                Ok::<(), Error>(())
            })?;
        }
        let mut compared = 0;
        for &document in ids {
            if let Some(&Some(score)) = self.cosines.get(&document) {
                nearest.push(Hit { document, score });
                compared += 1;
            }
        }
        Ok(compared)
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
