//! The best documents of some posting lists: block-max WAND (Ding and Suel, "Faster Top-k Document Retrieval Using
//! Block-Max Indexes", SIGIR 2011). A block is read only when its best document could be among the best of all.

use std::ops::Range;

use super::Damaged;
use super::bm25::Norms;
use super::posting_list::{Block, Directory, Posting};
use crate::top::{Hit, Top};

/// Sums of the same numbers in another order differ a little: what could be better must not be passed over for it.
const ROUNDING: f32 = 1.0 + 1e-5;

/// Documents that are sought one by one, where only these count; of more, those that cannot be good enough are passed
/// over as without.
const SOUGHT_MAX: usize = 2048;

/// A term of a query, and its list.
pub struct Term {
    /// How much it counts: its idf, times what the query says.
    pub weight: f32,
    pub directory: Directory,
}

/// Where the postings of a query's terms come from.
pub trait ReadPostings {
    type Error: From<Damaged>;

    /// These bytes of the postings of a term, by its number in the query.
    fn read(&mut self, term: usize, bytes: Range<usize>) -> Result<&[u8], Self::Error>;
}

/// Adds the best documents that have any of the terms; with `among`, in order, only those.
pub fn search<R: ReadPostings>(
    terms: Vec<Term>,
    norms: &Norms,
    among: Option<&[i64]>,
    source: &mut R,
    top: &mut Top,
) -> Result<(), R::Error> {
    let mut cursors: Vec<Cursor> = terms
        .into_iter()
        .enumerate()
        .map(|(number, term)| Cursor::new(number, term, norms))
        .collect();
    match among {
        Some(documents) if documents.len() <= SOUGHT_MAX => {
            search_among(&mut cursors, norms, documents, source, top)
        }
        _ => search_all(&mut cursors, norms, among, source, top),
    }
}

fn search_among<R: ReadPostings>(
    cursors: &mut [Cursor],
    norms: &Norms,
    documents: &[i64],
    source: &mut R,
    top: &mut Top,
) -> Result<(), R::Error> {
    for &document in documents {
        let mut score = 0.0;
        for cursor in &mut *cursors {
            cursor.settle(document, source)?;
            if cursor.document == document {
                score += cursor.score(norms);
            }
        }
        if score > 0.0 {
            top.push(Hit { document, score });
        }
    }
    Ok(())
}

fn search_all<R: ReadPostings>(
    cursors: &mut Vec<Cursor>,
    norms: &Norms,
    among: Option<&[i64]>,
    source: &mut R,
    top: &mut Top,
) -> Result<(), R::Error> {
    let mut rest = among.unwrap_or_default();
    cursors.retain(|cursor| cursor.document != END);
    loop {
        // Few of them move at a time.
        cursors.sort_by_key(|cursor| cursor.document);
        while cursors.last().is_some_and(|cursor| cursor.document == END) {
            cursors.pop();
        }
        let threshold = top.threshold();
        let Some(pivot) = pivot(cursors, threshold) else {
            return Ok(());
        };
        let document = cursors[pivot].document;
        let end = cursors[pivot..]
            .iter()
            .position(|cursor| cursor.document > document)
            .map_or(cursors.len(), |after| pivot + after);
        let (candidates, others) = cursors.split_at_mut(end);
        if among.is_some() {
            rest = &rest[first(rest, 0, |other| *other < document)..];
            let wanted = rest.first().copied().unwrap_or(END);
            if wanted > document {
                for cursor in candidates {
                    cursor.seek(wanted);
                }
                continue;
            }
        }
        let mut bound = 0.0;
        for cursor in &mut *candidates {
            cursor.shallow_seek(document);
            bound += cursor.block_bound();
        }
        if bound * ROUNDING < threshold {
            // No document up to the next border of a block is good enough.
            let border = candidates.iter().map(Cursor::block_end).min();
            let next = others.first().map_or(END, |other| other.document);
            let next = border.unwrap_or(END).saturating_add(1).min(next);
            for cursor in candidates {
                cursor.seek(next.max(document + 1));
            }
            continue;
        }
        if let Some(score) = score(candidates, document, bound, threshold, norms, source)? {
            top.push(Hit { document, score });
        }
        for cursor in candidates {
            cursor.seek(document + 1);
        }
    }
}

/// The document's score, unless it is seen on the way that it is not good enough: terms that count most come first,
/// so that blocks of frequent words are seldom read.
fn score<R: ReadPostings>(
    cursors: &mut [Cursor],
    document: i64,
    mut bound: f32,
    threshold: f32,
    norms: &Norms,
    source: &mut R,
) -> Result<Option<f32>, R::Error> {
    cursors.sort_by(|a, b| b.block_bound().total_cmp(&a.block_bound()));
    let mut score = 0.0;
    for cursor in cursors {
        bound -= cursor.block_bound();
        cursor.settle(document, source)?;
        if cursor.document == document {
            score += cursor.score(norms);
        }
        if (score + bound.max(0.0)) * ROUNDING < threshold {
            return Ok(None);
        }
    }
    Ok((score > 0.0).then_some(score))
}

/// The first cursor, in the order of their documents, whose document could be good enough with all before it.
fn pivot(cursors: &[Cursor], threshold: f32) -> Option<usize> {
    let mut bound = 0.0;
    cursors.iter().position(|cursor| {
        bound += cursor.bound;
        bound * ROUNDING >= threshold
    })
}

/// No document.
const END: i64 = i64::MAX;

/// A place in a list. It stands at a posting, or, as long as a block is not read, at the first document that its next
/// posting can be of.
struct Cursor {
    number: usize,
    weight: f32,
    blocks: Vec<Block>,
    /// The greatest score of each block, and of all.
    bounds: Vec<f32>,
    bound: f32,
    block: usize,
    /// The block that bounds are asked of; at or after `block`.
    shallow: usize,
    /// Of the block that was read.
    postings: Vec<Posting>,
    read: Option<usize>,
    position: usize,
    document: i64,
}

impl Cursor {
    fn new(number: usize, term: Term, norms: &Norms) -> Self {
        let best = |block: &Block| {
            let impacts = block.impacts.iter();
            let impact = impacts.map(|impact| norms.impact(impact.frequency, impact.length));
            term.weight * impact.fold(0.0, f32::max)
        };
        let blocks = term.directory.blocks;
        let bounds: Vec<f32> = blocks.iter().map(best).collect();
        Self {
            number,
            weight: term.weight,
            bound: bounds.iter().copied().fold(0.0, f32::max),
            document: blocks.first().map_or(END, |block| block.first),
            blocks,
            bounds,
            block: 0,
            shallow: 0,
            postings: Vec::new(),
            read: None,
            position: 0,
        }
    }

    /// Moves to the first posting at or after the document, or to where it can be.
    fn seek(&mut self, document: i64) {
        if self.document >= document {
            return;
        }
        self.block = first(&self.blocks, self.block, |block| block.last < document);
        self.shallow = self.shallow.max(self.block);
        let Some(block) = self.blocks.get(self.block) else {
            self.document = END;
            return;
        };
        if self.read == Some(self.block) {
            let rest = &self.postings[self.position..];
            self.position += rest.partition_point(|posting| posting.document < document);
            self.document = self.postings[self.position].document;
        } else {
            self.document = block.first.max(document);
        }
    }

    /// Reads the block where it stands, and moves on to a posting of it at or after the document.
    fn settle<R: ReadPostings>(&mut self, document: i64, source: &mut R) -> Result<(), R::Error> {
        self.seek(document);
        let Some(block) = self.blocks.get(self.block) else {
            return Ok(());
        };
        if self.read == Some(self.block) || self.document > document {
            return Ok(());
        }
        let bytes = source.read(self.number, block.start..block.end)?;
        self.postings.clear();
        block.decode(bytes, &mut self.postings)?;
        self.read = Some(self.block);
        self.position = self
            .postings
            .partition_point(|posting| posting.document < document);
        self.document = self.postings[self.position].document;
        Ok(())
    }

    /// Finds the block for `block_bound` without moving.
    fn shallow_seek(&mut self, document: i64) {
        let start = self.shallow.max(self.block);
        self.shallow = first(&self.blocks, start, |block| block.last < document);
    }

    fn block_bound(&self) -> f32 {
        self.bounds.get(self.shallow).copied().unwrap_or(0.0)
    }

    fn block_end(&self) -> i64 {
        self.blocks
            .get(self.shallow)
            .map_or(END - 1, |block| block.last)
    }

    fn score(&self, norms: &Norms) -> f32 {
        let posting = &self.postings[self.position];
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
