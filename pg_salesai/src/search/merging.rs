//! Segments of the lexical index: chunks that are in none become one, and several of about the same size become one, so
//! that each posting is written a few times in all.

use std::collections::{BTreeMap, VecDeque};

use domain::lexical::{FieldBoosts, Posting, PostingList, decode, encode, term_counts};
use pgrx::Spi;
use pgrx::check_for_interrupts;
use pgrx::spi::SpiClient;

use super::stored_bytes::StoredVector;
use crate::error::Error;

/// Fewer new chunks are left to search, which reads each of them.
pub const CHUNKS_MIN: i64 = 256;
/// The same between two groups of a batch: a segment of each group would soon be written again.
pub const CHUNKS_MIN_AT_WORK: i64 = 512;
/// Chunks that become a segment at once.
const CHUNKS_MAX: i64 = 4096;
/// Segments that become one. More of them, and search has more lists to read; fewer, and postings are written more often.
const SEGMENTS_MERGED: i64 = 8;
/// Lists that are read or written by one statement.
const LISTS_PER_STATEMENT: usize = 1000;

/// The term of the list that has all chunks of a segment: no lexeme is empty.
const MEMBERS: &str = "";

/// Makes a segment of what is in none; false when there is too little, or the index is being rebuilt.
pub fn merge_delta(chunks_min: i64) -> Result<bool, Error> {
    let is_enough = "select count(*) >= $1 from (select from salesai.lexical_delta limit $1) d";
    if Spi::get_one_with_args(is_enough, &[chunks_min.into()])? != Some(true) || !sees_all()? {
        return Ok(false);
    }
    // Who rebuilds the index has it alone.
    let Some(boosts) = boosts("for key share skip locked")? else {
        return Ok(false);
    };
    Spi::connect_mut(|client| {
        let taken = "with waiting as (
                 select d.chunk_id from salesai.lexical_delta d order by d.chunk_id limit $1 for update skip locked)
             delete from salesai.lexical_delta d using waiting w
             where d.chunk_id = w.chunk_id and (select count(*) from waiting) >= $2
             returning d.chunk_id";
        let ids: Vec<i64> = client
            .update(taken, None, &[CHUNKS_MAX.into(), chunks_min.into()])?
            .map(|row| Ok(row.get::<i64>(1)?.unwrap_or_default()))
            .collect::<Result<_, Error>>()?;
        if ids.is_empty() {
            return Ok(false);
        }
        let mut lists: BTreeMap<String, Vec<Posting>> = BTreeMap::new();
        let mut segment = Segment::default();
        let chunks =
            "select c.id, c.lexemes from salesai.chunk c where c.id = any ($1) order by c.id";
        for row in client.select(chunks, None, &[ids.into()])? {
            let (Some(id), Some(vector)) = (row.get::<i64>(1)?, row.get::<StoredVector>(2)?) else {
                continue;
            };
            let counts = term_counts(&vector.0, boosts)?;
            segment.add(id, counts.length);
            for (term, frequency) in [(MEMBERS, 1)].into_iter().chain(counts.terms) {
                let posting = Posting {
                    document: id,
                    frequency,
                    length: counts.length,
                };
                match lists.get_mut(term) {
                    Some(list) => list.push(posting),
                    None => {
                        lists.insert(term.to_owned(), vec![posting]);
                    }
                }
            }
        }
        if segment.chunk_count > 0 {
            let mut writer = Writer::new(segment.insert(client)?);
            for (term, postings) in lists {
                writer.write(client, term, encode(&postings))?;
            }
            writer.flush(client)?;
        }
        Ok(true)
    })
}

/// Makes one segment of several of a size; false when no size has enough, or another process is at it.
pub fn merge_segments() -> Result<bool, Error> {
    // Before the lock, because that leaves a row version behind, and again under it.
    if mergeable()?.is_empty() || !sees_all()? || boosts("for no key update skip locked")?.is_none()
    {
        return Ok(false);
    }
    let ids = mergeable()?;
    if ids.is_empty() {
        return Ok(false);
    }
    Spi::connect_mut(|client| {
        let (living, merged) = survivors(client, &ids)?;
        let mut writer = Writer::new(merged.insert(client)?);
        let mut sources: Vec<Source> = ids.iter().map(|id| Source::new(*id)).collect();
        while let Some((term, lists)) = next_term(client, &mut sources)? {
            check_for_interrupts!();
            let mut postings: Vec<Posting> = Vec::new();
            for list in &lists {
                postings.extend(decode(list)?);
            }
            postings.retain(|posting| living.binary_search(&posting.document).is_ok());
            postings.sort_unstable_by_key(|posting| posting.document);
            if !postings.is_empty() {
                writer.write(client, term, encode(&postings))?;
            }
        }
        writer.flush(client)?;
        for table in [
            "posting_list p where p.segment_id",
            "lexical_segment s where s.id",
        ] {
            let query = format!("delete from salesai.{table} = any ($1)");
            client.update(query.as_str(), None, &[ids.clone().into()])?;
        }
        Ok(true)
    })
}

/// Row-level security goes by the session, not by the rights that it works with: what it hides would be taken for gone.
fn sees_all() -> Result<bool, Error> {
    Ok(Spi::get_one("select salesai.reads_all()")? == Some(true))
}

/// Segments that are to become one: the smallest of which there are enough.
fn mergeable() -> Result<Vec<i64>, Error> {
    // Sizes that differ by less than the number of those that become one.
    let query = "select array_agg(s.id order by s.id)
        from salesai.lexical_segment s
        group by floor(ln(greatest(s.chunk_count, 1)) / ln($1::float8))
        having count(*) >= $1
        order by min(s.chunk_count) limit 1";
    Spi::connect(|client| {
        let mut ids = Vec::new();
        for row in client.select(query, Some(1), &[SEGMENTS_MERGED.into()])? {
            ids = row.get(1)?.unwrap_or_default();
        }
        Ok(ids)
    })
}

/// The boosts of the index, whose row is locked in this way; None when somebody else has it.
fn boosts(lock: &str) -> Result<Option<FieldBoosts>, Error> {
    let query =
        format!("select i.heading_boost, i.speaker_boost from salesai.lexical_index i {lock}");
    Spi::connect_mut(|client| {
        let mut boosts = None;
        for row in client.update(query.as_str(), Some(1), &[])? {
            boosts = Some(FieldBoosts {
                heading: row.get(1)?.unwrap_or(1.0),
                speaker: row.get(2)?.unwrap_or(1.0),
            });
        }
        Ok(boosts)
    })
}

/// Chunks of these segments that are still there, in order, and what they amount to.
fn survivors(client: &SpiClient<'_>, ids: &[i64]) -> Result<(Vec<i64>, Segment), Error> {
    let mut members: Vec<Posting> = Vec::new();
    let lists = "select p.chunk_count, p.directory, p.postings from salesai.posting_list p
        where p.segment_id = any ($1) and p.term = $2";
    for row in client.select(lists, None, &[ids.to_vec().into(), MEMBERS.into()])? {
        members.extend(decode(&PostingList {
            count: row.get::<i32>(1)?.unwrap_or(0).cast_unsigned(),
            directory: row.get(2)?.unwrap_or_default(),
            postings: row.get(3)?.unwrap_or_default(),
        })?);
    }
    members.sort_unstable_by_key(|member| member.document);
    let range = members.first().zip(members.last());
    let (first, last) = range.map_or((0, 0), |(first, last)| (first.document, last.document));
    let mut living: Vec<i64> = Vec::new();
    let chunks = "select c.id from salesai.chunk c where c.id between $1 and $2 order by c.id";
    for row in client.select(chunks, None, &[first.into(), last.into()])? {
        living.extend(row.get::<i64>(1)?);
    }
    let mut merged = Segment::default();
    members.retain(|member| living.binary_search(&member.document).is_ok());
    for member in &members {
        merged.add(member.document, member.length);
    }
    Ok((living, merged))
}

/// A segment before it has an id.
#[derive(Default)]
struct Segment {
    chunk_count: i64,
    length: i64,
    first: i64,
    last: i64,
}

impl Segment {
    /// Adds a chunk after all others.
    fn add(&mut self, id: i64, length: u8) {
        if self.chunk_count == 0 {
            self.first = id;
        }
        self.last = id;
        self.chunk_count += 1;
        self.length += i64::from(length);
    }

    fn insert(&self, client: &mut SpiClient<'_>) -> Result<i64, Error> {
        let query = "insert into salesai.lexical_segment (chunk_count, length, first_chunk_id, last_chunk_id)
            values ($1, $2, $3, $4) returning id";
        let values = [
            self.chunk_count.into(),
            self.length.into(),
            self.first.into(),
            self.last.into(),
        ];
        let id = client
            .update(query, Some(1), &values)?
            .first()
            .get_one::<i64>()?;
        Ok(id.unwrap_or_default())
    }
}

/// Writes lists of a segment, many at a time.
struct Writer {
    segment_id: i64,
    terms: Vec<String>,
    lists: Vec<PostingList>,
}

impl Writer {
    fn new(segment_id: i64) -> Self {
        Self {
            segment_id,
            terms: Vec::new(),
            lists: Vec::new(),
        }
    }

    fn write(
        &mut self,
        client: &mut SpiClient<'_>,
        term: String,
        list: PostingList,
    ) -> Result<(), Error> {
        self.terms.push(term);
        self.lists.push(list);
        match self.terms.len() >= LISTS_PER_STATEMENT {
            true => self.flush(client),
            false => Ok(()),
        }
    }

    fn flush(&mut self, client: &mut SpiClient<'_>) -> Result<(), Error> {
        let lists = std::mem::take(&mut self.lists);
        let counts: Vec<i32> = lists.iter().map(|list| list.count.cast_signed()).collect();
        let (directories, postings): (Vec<Vec<u8>>, Vec<Vec<u8>>) = lists
            .into_iter()
            .map(|list| (list.directory, list.postings))
            .unzip();
        let query =
            "insert into salesai.posting_list (segment_id, term, chunk_count, directory, postings)
            select $1, l.* from unnest($2::text[], $3::integer[], $4::bytea[], $5::bytea[]) l";
        let values = [
            self.segment_id.into(),
            std::mem::take(&mut self.terms).into(),
            counts.into(),
            directories.into(),
            postings.into(),
        ];
        client.update(query, None, &values)?;
        Ok(())
    }
}

/// The lists of a segment in the order of their terms.
struct Source {
    segment_id: i64,
    lists: VecDeque<(String, PostingList)>,
    /// None before the first list, which is that of the empty term.
    last_term: Option<String>,
    is_read: bool,
}

impl Source {
    fn new(segment_id: i64) -> Self {
        Self {
            segment_id,
            lists: VecDeque::new(),
            last_term: None,
            is_read: false,
        }
    }

    /// Reads on when all that was read is used.
    fn fill(&mut self, client: &SpiClient<'_>) -> Result<(), Error> {
        if self.is_read || !self.lists.is_empty() {
            return Ok(());
        }
        let (last_term, after) = match &self.last_term {
            Some(term) => (term.as_str(), ">"),
            None => ("", ">="),
        };
        let query = format!(
            "select p.term, p.chunk_count, p.directory, p.postings from salesai.posting_list p
             where p.segment_id = $1 and p.term {after} $2 order by p.term limit $3"
        );
        let values = [
            self.segment_id.into(),
            last_term.into(),
            (LISTS_PER_STATEMENT as i64).into(),
        ];
        for row in client.select(query.as_str(), None, &values)? {
            let list = PostingList {
                count: row.get::<i32>(2)?.unwrap_or(0).cast_unsigned(),
                directory: row.get(3)?.unwrap_or_default(),
                postings: row.get(4)?.unwrap_or_default(),
            };
            self.lists
                .push_back((row.get(1)?.unwrap_or_default(), list));
        }
        self.is_read = self.lists.len() < LISTS_PER_STATEMENT;
        if let Some((term, _)) = self.lists.back() {
            self.last_term = Some(term.clone());
        }
        Ok(())
    }
}

/// The next term of any source, with its lists.
fn next_term(
    client: &SpiClient<'_>,
    sources: &mut [Source],
) -> Result<Option<(String, Vec<PostingList>)>, Error> {
    for source in &mut *sources {
        source.fill(client)?;
    }
    let heads = sources.iter().filter_map(|source| source.lists.front());
    let Some(term) = heads.map(|(term, _)| term).min().cloned() else {
        return Ok(None);
    };
    let mut lists = Vec::new();
    for source in sources {
        if source.lists.front().is_some_and(|(head, _)| *head == term) {
            lists.extend(source.lists.pop_front().map(|(_, list)| list));
        }
    }
    Ok(Some((term, lists)))
}
