//! The best documents of some posting lists, window by window of their ids: in each, the lists whose blocks could not make
//! a document good enough together are only asked for what the others have found (Turtle and Flood, "Query Evaluation:
//! Strategies and Optimizations", 1995, MaxScore; with the bounds of blocks as in Ding and Suel, "Faster Top-k Document
//! Retrieval Using Block-Max Indexes", SIGIR 2011). Where all lists together could not, the window is passed over.

use std::ops::Range;

use super::Damaged;
use super::bm25::Norms;
use super::posting_list::{Directory, Posting};
use crate::top::{Hit, Top};

/// Sums of the same numbers in another order differ a little: what could be better must not be passed over for it.
const ROUNDING: f32 = 1.0 + 1e-5;

/// Where only some documents count and a window has no more of them than this, each is looked up in the lists.
const LOOKED_UP_MAX: usize = 16;

/// A term of a query, and its list.
pub struct Term<'a> {
    /// How much it counts: its idf, times what the query says.
    pub weight: f32,
    pub directory: &'a Directory,
}

/// Where the postings of a query's terms come from.
pub trait ReadPostings {
    type Error: From<Damaged>;

    /// These bytes of the postings of a term, by its number in the query.
    fn read(&mut self, term: usize, bytes: Range<usize>) -> Result<&[u8], Self::Error>;
}

/// Adds the best documents that have any of the terms; with `among`, in order, only those.
pub fn search<R: ReadPostings>(
    terms: &[Term<'_>],
    norms: &Norms,
    among: Option<&[i64]>,
    source: &mut R,
    top: &mut Top,
) -> Result<(), R::Error> {
    let mut cursors: Vec<Cursor> = terms.iter().enumerate().map(Cursor::new).collect();
    let mut wanted = among.unwrap_or_default();
    let mut search = Search {
        norms,
        source,
        top,
        sums: Sums::default(),
        found: Vec::new(),
    };
    let mut start = 0;
    loop {
        if among.is_some() {
            wanted = &wanted[first(wanted, 0, |document| *document < start)..];
            let Some(&next) = wanted.first() else {
                return Ok(());
            };
            start = next;
        }
        cursors.retain_mut(|cursor| cursor.reach(start));
        let ends = cursors
            .iter()
            .map(|cursor| cursor.directory.blocks[cursor.block].last);
        let Some(end) = ends.min() else {
            return Ok(());
        };
        let of_window = among.map(|_| &wanted[..first(wanted, 0, |document| *document <= end)]);
        search.window(&mut cursors, start, end, of_window)?;
        let Some(next) = end.checked_add(1) else {
            return Ok(());
        };
        start = next;
    }
}

struct Search<'a, R> {
    norms: &'a Norms,
    source: &'a mut R,
    top: &'a mut Top,
    sums: Sums,
    /// Documents of a window, in order, and what is known of their scores.
    found: Vec<Hit>,
}

impl<R: ReadPostings> Search<'_, R> {
    /// Each cursor is at the block that has the window's documents; with `wanted` only those of them count.
    fn window(
        &mut self,
        cursors: &mut [Cursor<'_>],
        start: i64,
        end: i64,
        wanted: Option<&[i64]>,
    ) -> Result<(), R::Error> {
        for cursor in &mut *cursors {
            cursor.set_bound(end);
        }
        cursors.sort_unstable_by(|a, b| a.bound.total_cmp(&b.bound));
        let threshold = self.top.threshold();
        let mut bound = 0.0;
        let useless = cursors.iter().position(|cursor| {
            bound += cursor.bound;
            bound * ROUNDING >= threshold
        });
        let Some(useless) = useless else {
            return Ok(());
        };
        if let Some(wanted) = wanted
            && wanted.len() <= LOOKED_UP_MAX
        {
            let unknown = |&document: &i64| Hit {
                document,
                score: 0.0,
            };
            self.found.extend(wanted.iter().map(unknown));
            return self.complete(cursors);
        }
        let (useless, useful) = cursors.split_at_mut(useless);
        for cursor in useful.iter_mut().filter(|cursor| cursor.bound > 0.0) {
            cursor.read(self.source)?;
            cursor.seek(start);
        }
        let bound: f32 = useless.iter().map(|cursor| cursor.bound).sum();
        while let Some(next) = useful.iter().filter_map(Cursor::document).min()
            && next <= end
        {
            self.sums.first = next;
            let last = end.min(next.saturating_add(SUMS as i64 - 1));
            for cursor in &mut *useful {
                cursor.add_up(last, self.norms, &mut self.sums);
            }
            let least = self.top.threshold() / ROUNDING - bound;
            self.sums.take(last, least, &mut self.found);
            if let Some(mut wanted) = wanted {
                self.found.retain(|hit| {
                    wanted = &wanted[first(wanted, 0, |other| *other < hit.document)..];
                    wanted.first() == Some(&hit.document)
                });
            }
            self.complete(useless)?;
        }
        Ok(())
    }

    /// Adds what these lists, in the order of their bounds, make of the documents found, and keeps the best. It goes no
    /// further than until it is seen that a document is not good enough.
    fn complete(&mut self, cursors: &mut [Cursor<'_>]) -> Result<(), R::Error> {
        let bound: f32 = cursors.iter().map(|cursor| cursor.bound).sum();
        'documents: for Hit {
            document,
            mut score,
        } in self.found.drain(..)
        {
            let threshold = self.top.threshold();
            let mut rest = bound;
            for cursor in cursors.iter_mut().rev() {
                if (score + rest.max(0.0)) * ROUNDING < threshold {
                    continue 'documents;
                }
                rest -= cursor.bound;
                let more = cursor.look_up(document, self.norms, self.source)?;
                score += more.unwrap_or(0.0);
            }
            if score > 0.0 {
                self.top.push(Hit { document, score });
            }
        }
        Ok(())
    }
}

/// Documents that are added up at a time.
const SUMS: usize = 4096;

/// Scores of the documents from `first` on, as far as they are added up.
struct Sums {
    first: i64,
    scores: Vec<f32>,
    /// A bit for each that has one.
    is_found: [u64; SUMS / 64],
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            first: 0,
            scores: vec![0.0; SUMS],
            is_found: [0; SUMS / 64],
        }
    }
}

impl Sums {
    #[inline]
    fn add(&mut self, document: i64, score: f32) {
        let place = (document - self.first) as usize;
        self.scores[place] += score;
        self.is_found[place / 64] |= 1 << (place % 64);
    }

    /// Moves those up to `last` of at least so much, and clears the others.
    fn take(&mut self, last: i64, least: f32, found: &mut Vec<Hit>) {
        let words = (last - self.first) as usize / 64 + 1;
        for (word, bits) in self.is_found[..words].iter_mut().enumerate() {
            while *bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                let score = std::mem::take(&mut self.scores[place]);
                if score >= least {
                    found.push(Hit {
                        document: self.first + place as i64,
                        score,
                    });
                }
            }
        }
    }
}

/// A place in a list: a block, and a posting of it once it was read.
struct Cursor<'a> {
    number: usize,
    weight: f32,
    directory: &'a Directory,
    block: usize,
    /// The greatest score of the documents of the window.
    bound: f32,
    /// Of the block that was read.
    postings: Vec<Posting>,
    read: Option<usize>,
    position: usize,
}

impl<'a> Cursor<'a> {
    fn new((number, term): (usize, &Term<'a>)) -> Self {
        Self {
            number,
            weight: term.weight,
            directory: term.directory,
            block: 0,
            bound: 0.0,
            postings: Vec::new(),
            read: None,
            position: 0,
        }
    }

    /// Moves to the block that has a document or the next; false when there is none.
    fn reach(&mut self, document: i64) -> bool {
        let blocks = &self.directory.blocks;
        self.block = first(blocks, self.block, |block| block.last < document);
        self.block < blocks.len()
    }

    fn set_bound(&mut self, end: i64) {
        let is_after = self.directory.blocks[self.block].first > end;
        self.bound = match is_after {
            true => 0.0,
            false => self.weight * self.directory.impacts[self.block],
        };
    }

    /// Reads the block.
    fn read<R: ReadPostings>(&mut self, source: &mut R) -> Result<(), R::Error> {
        if self.read == Some(self.block) {
            return Ok(());
        }
        let block = &self.directory.blocks[self.block];
        let bytes = source.read(self.number, block.start..block.end)?;
        self.postings.clear();
        block.decode(bytes, &mut self.postings)?;
        (self.read, self.position) = (Some(self.block), 0);
        Ok(())
    }

    /// Moves to the first posting of the block that was read at or after the document.
    fn seek(&mut self, document: i64) {
        let is_before = |posting: &Posting| posting.document < document;
        self.position = first(&self.postings, self.position, is_before);
    }

    /// The document where it stands; None where the block was not read, or is used up.
    fn document(&self) -> Option<i64> {
        let posting = self.postings.get(self.position)?;
        (self.read == Some(self.block)).then_some(posting.document)
    }

    /// The document's score; None where the list does not have it.
    fn look_up<R: ReadPostings>(
        &mut self,
        document: i64,
        norms: &Norms,
        source: &mut R,
    ) -> Result<Option<f32>, R::Error> {
        if self.directory.blocks[self.block].first > document {
            return Ok(None);
        }
        self.read(source)?;
        self.seek(document);
        let posting = self.postings.get(self.position);
        let posting = posting.filter(|posting| posting.document == document);
        Ok(posting.map(|posting| self.score(posting, norms)))
    }

    /// Adds the scores of documents up to `last`.
    fn add_up(&mut self, last: i64, norms: &Norms, sums: &mut Sums) {
        if self.read != Some(self.block) {
            return;
        }
        let rest = &self.postings[self.position..];
        let mut used = 0;
        for posting in rest.iter().take_while(|posting| posting.document <= last) {
            sums.add(posting.document, self.score(posting, norms));
            used += 1;
        }
        self.position += used;
    }

    #[inline]
    fn score(&self, posting: &Posting, norms: &Norms) -> f32 {
        self.weight * norms.impact(posting.frequency, posting.length)
    }
}

/// The first item from `start` on, in their order, that is not before what is sought: by leaps, since it is mostly near.
fn first<T>(items: &[T], start: usize, is_before: impl Fn(&T) -> bool) -> usize {
    let mut leap = 1;
    let mut low = start;
    while let Some(item) = items.get(low + leap)
        && is_before(item)
    {
        low += leap;
        leap *= 2;
    }
    let high = (low + leap + 1).min(items.len());
    match items.get(low..high) {
        Some(near) => low + near.partition_point(is_before),
        None => items.len(),
    }
}

#[cfg(test)]
#[path = "retrieval_tests.rs"]
mod tests;
