//! The best chunks by BM25.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use domain::lexical::{
    Collection, Directory, FieldBoosts, Norms, Parameters, ReadPostings, Term, idf, search,
    term_counts_of,
};
use domain::top::{Hit, Top};
use pgrx::Spi;
use pgrx::spi::SpiClient;

use super::admission::{Condition, admit, admitted, more};
use super::plans;
use super::stored_bytes::{StoredBytes, StoredVector};
use crate::error::Error;
use crate::rights::WorkerRights;

/// Where a list is read on nearly where the last part ended, more is read at a time, up to so many bytes.
const READ_BYTES_MAX: usize = 1 << 16;
const READ_GAP_MAX: usize = 1 << 12;
/// Candidates of the first try.
const CANDIDATES_MIN: usize = 128;
/// The same where some are not wanted.
const FILTERED_CANDIDATES_MIN: usize = 512;

/// Terms that a prefix stands for.
const PREFIX_TERMS_MAX: i64 = 64;

/// What is looked for.
pub struct Request<'a> {
    pub terms: Vec<String>,
    /// Beginnings of more terms.
    pub prefixes: Vec<String>,
    pub parameters: Parameters,
    /// Which chunks the caller wants.
    pub condition: &'a Condition,
    /// Where it is known already which chunks fulfil it: those, in order.
    pub among: Option<Vec<i64>>,
    pub limit: usize,
    /// Chunks whose scores are wanted too.
    pub also: Vec<i64>,
}

/// The best chunks, best first; and those that are wanted too, as far as they have any of the terms and are not among
/// the best.
pub fn hits(request: &Request<'_>) -> Result<(Vec<Hit>, Vec<Hit>), Error> {
    let index = {
        let _rights = WorkerRights::assume();
        Index::load(&request.terms, &request.prefixes, request.parameters)?
    };
    let best = best(&index, request)?;
    let found: HashSet<i64> = best.iter().map(|hit| hit.document).collect();
    let mut also = request.also.clone();
    also.retain(|id| !found.contains(id));
    also.sort_unstable();
    also.dedup();
    let (mut others, _) = index.best(Some(&also), also.len())?;
    // Whoever calls may name what is none of theirs.
    admit(&mut others, request.condition)?;
    Ok((best, others))
}

fn best(index: &Index, request: &Request<'_>) -> Result<Vec<Hit>, Error> {
    let mut candidates = match &request.among {
        // Mostly the caller's own.
        Some(_) => request.limit,
        None if request.condition.admits_all()? => {
            CANDIDATES_MIN.max(request.limit + request.limit / 4)
        }
        None => FILTERED_CANDIDATES_MIN.max(request.limit * 2),
    };
    loop {
        let (mut found, is_all) = index.best(request.among.as_deref(), candidates)?;
        admit(&mut found, request.condition)?;
        if is_all || found.len() >= request.limit {
            found.truncate(request.limit);
            return Ok(found);
        }
        candidates = more(candidates, found.len(), request.limit);
    }
}

/// Chunks that have all terms and fulfil the condition, in order; None when more than `chunks_max` have the terms.
pub fn having_all(
    terms: &[String],
    condition: &Condition,
    chunks_max: usize,
) -> Result<Option<Vec<i64>>, Error> {
    let index = {
        let _rights = WorkerRights::assume();
        Index::load(terms, &[], Parameters::default())?
    };
    let Some(documents) = index.having_all(terms.len(), chunks_max)? else {
        return Ok(None);
    };
    let mut admitted: Vec<i64> = admitted(documents, condition)?.into_iter().collect();
    admitted.sort_unstable();
    Ok(Some(admitted))
}

/// What the index knows of some terms.
struct Index {
    collection: Collection,
    norms: Norms,
    segments: Vec<Vec<List>>,
    delta: Vec<NewChunk>,
    /// Chunks that have each term.
    frequencies: Vec<u64>,
}

/// Words that begin with `negotia` may have the stem `negoti`: beginnings of a prefix that can be such stems.
fn shorter_stems(prefix: &str) -> Vec<String> {
    let characters: Vec<char> = prefix.chars().collect();
    let lengths = characters.len().saturating_sub(2).max(3)..characters.len();
    lengths
        .map(|length| characters[..length].iter().collect())
        .collect()
}

/// The most frequent terms that begin so.
fn terms_with_prefix(client: &SpiClient<'_>, prefix: &str) -> Result<Vec<String>, Error> {
    let query = "select p.term from salesai.lexical_segment s
        join salesai.posting_list p on p.segment_id = s.id
            and (p.term >= $1 and p.term < $1 || chr(1114111) or p.term = any ($2))
        group by p.term order by sum(p.chunk_count) desc, p.term limit $3";
    let values = [
        prefix.into(),
        shorter_stems(prefix).into(),
        PREFIX_TERMS_MAX.into(),
    ];
    let rows = plans::select(client, query, &values)?;
    rows.map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
        .collect()
}

/// A term's list in a segment.
struct List {
    term: usize,
    directory: Directory,
    postings: StoredBytes,
}

/// A chunk that is in no segment.
struct NewChunk {
    id: i64,
    length: u8,
    /// Of the terms that it has, by their numbers.
    frequencies: Vec<(usize, u8)>,
}

impl Index {
    fn load(terms: &[String], prefixes: &[String], parameters: Parameters) -> Result<Self, Error> {
        Spi::connect(|client| {
            let mut terms = terms.to_vec();
            for prefix in prefixes {
                terms.extend(terms_with_prefix(client, prefix)?);
            }
            terms.sort_unstable();
            terms.dedup();
            let mut index = Self {
                collection: Collection::default(),
                norms: Norms::new(parameters, Collection::default()),
                segments: Vec::new(),
                delta: Vec::new(),
                frequencies: vec![0; terms.len()],
            };
            let boosts = index.load_collection(client)?;
            // In this order: what is merged between the two statements is then found twice, and not missed.
            index.load_delta(client, &terms, prefixes, boosts)?;
            index.norms = Norms::new(parameters, index.collection);
            index.load_lists(client, &terms)?;
            Ok(index)
        })
    }

    fn load_collection(&mut self, client: &SpiClient<'_>) -> Result<FieldBoosts, Error> {
        let query = "select i.heading_boost, i.speaker_boost, coalesce(sum(s.chunk_count), 0)::bigint,
                coalesce(sum(s.length), 0)::bigint
            from salesai.lexical_index i left join salesai.lexical_segment s on true group by i.only_row";
        let mut boosts = FieldBoosts::default();
        for row in plans::select(client, query, &[])? {
            boosts.heading = row.get(1)?.unwrap_or(1.0);
            boosts.speaker = row.get(2)?.unwrap_or(1.0);
            let count = |value: Option<i64>| value.unwrap_or(0).unsigned_abs();
            self.collection = Collection {
                documents: count(row.get(3)?),
                length: count(row.get(4)?),
            };
        }
        Ok(boosts)
    }

    fn load_lists(&mut self, client: &SpiClient<'_>, terms: &[String]) -> Result<(), Error> {
        let query = "select p.segment_id, t.number, p.chunk_count, p.directory, p.postings
            from salesai.lexical_segment s
            cross join unnest($1) with ordinality t (term, number)
            join salesai.posting_list p on p.segment_id = s.id and p.term = t.term
            order by p.segment_id";
        let mut segment_id = None;
        for row in plans::select(client, query, &[terms.to_vec().into()])? {
            let segment: Option<i64> = row.get(1)?;
            let number = row.get::<i64>(2)?.unwrap_or(1);
            let term = usize::try_from(number - 1).unwrap_or(0);
            let count = row.get::<i32>(3)?.unwrap_or(0).unsigned_abs();
            let (Some(directory), Some(postings)) =
                (row.get::<&[u8]>(4)?, row.get::<StoredBytes>(5)?)
            else {
                continue;
            };
            if segment != segment_id {
                self.segments.push(Vec::new());
                segment_id = segment;
            }
            self.frequencies[term] += u64::from(count);
            if let Some(lists) = self.segments.last_mut() {
                lists.push(List {
                    term,
                    directory: Directory::decode(directory, &self.norms)?,
                    postings,
                });
            }
        }
        Ok(())
    }

    fn load_delta(
        &mut self,
        client: &SpiClient<'_>,
        terms: &[String],
        prefixes: &[String],
        boosts: FieldBoosts,
    ) -> Result<(), Error> {
        let mut numbers: HashMap<String, usize> = terms.iter().cloned().zip(0..).collect();
        let stems: Vec<String> = prefixes
            .iter()
            .flat_map(|prefix| shorter_stems(prefix))
            .collect();
        let is_prefixed = |term: &[u8]| {
            prefixes
                .iter()
                .any(|prefix| term.starts_with(prefix.as_bytes()))
                || stems.iter().any(|stem| stem.as_bytes() == term)
        };
        // In order; nearly all words of a chunk are none of them.
        let is_wanted = |term: &[u8]| {
            let at = terms.binary_search_by(|known| known.as_bytes().cmp(term));
            at.is_ok() || is_prefixed(term)
        };
        let query = "select c.id, c.lexemes
            from salesai.lexical_delta d join salesai.chunk c on c.id = d.chunk_id";
        for row in plans::select(client, query, &[])? {
            let (Some(id), Some(vector)) = (row.get::<i64>(1)?, row.get::<StoredVector>(2)?) else {
                continue;
            };
            let counts = term_counts_of(&vector.0, boosts, is_wanted)?;
            self.collection.documents += 1;
            self.collection.length += u64::from(counts.length);
            let mut frequencies = Vec::new();
            for (term, frequency) in counts.terms {
                let number = match numbers.get(term) {
                    Some(&number) => number,
                    None => {
                        self.frequencies.push(0);
                        let number = self.frequencies.len() - 1;
                        numbers.insert(term.to_owned(), number);
                        number
                    }
                };
                frequencies.push((number, frequency));
                self.frequencies[number] += 1;
            }
            if !frequencies.is_empty() {
                self.delta.push(NewChunk {
                    id,
                    length: counts.length,
                    frequencies,
                });
            }
        }
        Ok(())
    }

    /// The best, each once, and whether there are no others.
    fn best(&self, among: Option<&[i64]>, limit: usize) -> Result<(Vec<Hit>, bool), Error> {
        let weights: Vec<f32> = self
            .frequencies
            .iter()
            .map(|&frequency| idf(self.collection, frequency))
            .collect();
        let mut top = Top::new(limit);
        for lists in &self.segments {
            let terms: Vec<Term> = lists
                .iter()
                .map(|list| Term {
                    weight: weights[list.term],
                    directory: &list.directory,
                })
                .collect();
            search(
                &terms,
                &self.norms,
                among,
                &mut Reader::new(lists.iter().collect()),
                &mut top,
            )?;
        }
        for chunk in &self.delta {
            if among.is_some_and(|among| among.binary_search(&chunk.id).is_err()) {
                continue;
            }
            let score = |&(number, frequency): &(usize, u8)| {
                weights[number] * self.norms.impact(frequency, chunk.length)
            };
            top.push(Hit {
                document: chunk.id,
                score: chunk.frequencies.iter().map(score).sum(),
            });
        }
        let mut hits = top.into_hits();
        let is_all = hits.len() < limit;
        let mut seen = HashSet::new();
        hits.retain(|hit| seen.insert(hit.document));
        Ok((hits, is_all))
    }

    /// Documents that have all of so many terms; None when there are more than `documents_max`.
    fn having_all(&self, terms: usize, documents_max: usize) -> Result<Option<Vec<i64>>, Error> {
        let mut all: Vec<i64> = self
            .delta
            .iter()
            .filter(|chunk| chunk.frequencies.len() == terms)
            .map(|chunk| chunk.id)
            .collect();
        for lists in self.segments.iter().filter(|lists| lists.len() == terms) {
            // The shortest first: of the others only what can be in it is read.
            let mut lists: Vec<&List> = lists.iter().collect();
            lists.sort_by_key(|list| list.directory.blocks.len());
            let mut documents: Option<Vec<i64>> = None;
            let mut reader = Reader::new(lists);
            for number in 0..terms {
                documents = Some(reader.documents(number, documents.as_deref())?);
            }
            all.extend(documents.unwrap_or_default());
            if all.len() > documents_max {
                return Ok(None);
            }
        }
        all.sort_unstable();
        Ok(Some(all))
    }
}

/// Reads the lists of a segment, a window of each at a time.
struct Reader<'a> {
    lists: Vec<&'a List>,
    windows: Vec<Window>,
}

#[derive(Clone, Default)]
struct Window {
    start: usize,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(lists: Vec<&'a List>) -> Self {
        Self {
            windows: vec![Window::default(); lists.len()],
            lists,
        }
    }

    /// Documents of a list, of these where they are given.
    fn documents(&mut self, number: usize, among: Option<&[i64]>) -> Result<Vec<i64>, Error> {
        let mut documents = Vec::new();
        let mut postings = Vec::new();
        let mut rest = among.unwrap_or_default();
        for block in &self.lists[number].directory.blocks {
            rest = &rest[rest.partition_point(|document| *document < block.first)..];
            let count = rest.partition_point(|document| *document <= block.last);
            if among.is_some() && count == 0 {
                continue;
            }
            postings.clear();
            block.decode(self.read(number, block.start..block.end)?, &mut postings)?;
            let found = postings.iter().map(|posting| posting.document);
            match among {
                None => documents.extend(found),
                Some(_) => {
                    let wanted = &rest[..count];
                    documents
                        .extend(found.filter(|document| wanted.binary_search(document).is_ok()));
                }
            }
        }
        Ok(documents)
    }
}

impl ReadPostings for Reader<'_> {
    type Error = Error;

    fn read(&mut self, term: usize, bytes: Range<usize>) -> Result<&[u8], Error> {
        let window = &mut self.windows[term];
        let is_there =
            bytes.start >= window.start && bytes.end <= window.start + window.bytes.len();
        if !is_there {
            let end = window.start + window.bytes.len();
            let usual = match (window.start..=end + READ_GAP_MAX).contains(&bytes.start) {
                true => (2 * window.bytes.len()).min(READ_BYTES_MAX),
                false => 0,
            };
            let length = bytes.len().max(usual);
            window.bytes = self.lists[term].postings.slice(bytes.start, length);
            window.start = bytes.start;
        }
        let start = bytes.start - window.start;
        let part = window.bytes.get(start..start + bytes.len());
        Ok(part.ok_or(domain::lexical::Damaged)?)
    }
}
