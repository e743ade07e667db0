//! A term's list: the documents that have it, in blocks, and a directory that says of each block which documents it can
//! hold and how well one of them can do.

use super::Damaged;
use super::bm25::Norms;

/// Postings of a block.
pub const BLOCK_POSTINGS: usize = 128;
/// Pairs that a directory keeps of a block.
const IMPACTS_MAX: usize = 6;

/// A document of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Not negative.
    pub document: i64,
    /// Weighted, in [`super::bm25::FREQUENCY_UNIT`].
    pub frequency: u8,
    /// Of the document, 255 for more.
    pub length: u8,
}

/// A list as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostingList {
    /// Its documents.
    pub count: u32,
    pub directory: Vec<u8>,
    pub postings: Vec<u8>,
}

/// A block as the directory describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub first: i64,
    pub last: i64,
    /// Its place in the bytes of the postings.
    pub start: usize,
    pub end: usize,
}

/// What is known of a list without its postings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    pub blocks: Vec<Block>,
    /// Of each block, the impact of its best document at most.
    pub impacts: Vec<f32>,
}

/// Writes a list; the documents are in their order, each once.
pub fn encode(postings: &[Posting]) -> PostingList {
    let mut list = PostingList {
        count: u32::try_from(postings.len()).unwrap_or(u32::MAX),
        ..PostingList::default()
    };
    let mut previous = 0;
    for block in postings.chunks(BLOCK_POSTINGS) {
        let (first, last) = (block[0].document, block[block.len() - 1].document);
        let start = list.postings.len();
        let mut document = first;
        for posting in block {
            write_number(&mut list.postings, posting.document.abs_diff(document));
            list.postings.extend([posting.frequency, posting.length]);
            document = posting.document;
        }
        write_number(&mut list.directory, first.abs_diff(previous));
        write_number(&mut list.directory, last.abs_diff(first));
        write_number(&mut list.directory, (list.postings.len() - start) as u64);
        let impacts = best_impacts(block);
        list.directory.push(impacts.len() as u8);
        list.directory.extend(impacts.as_flattened());
        previous = last;
    }
    list
}

/// The postings of a whole list.
pub fn decode(list: &PostingList) -> Result<Vec<Posting>, Damaged> {
    let mut postings = Vec::with_capacity(list.count as usize);
    for described in described(&list.directory) {
        let (block, _) = described?;
        let bytes = list.postings.get(block.start..block.end).ok_or(Damaged)?;
        block.decode(bytes, &mut postings)?;
    }
    Ok(postings)
}

impl Directory {
    pub fn decode(bytes: &[u8], norms: &Norms) -> Result<Self, Damaged> {
        let mut directory = Self::default();
        for described in described(bytes) {
            let (block, impacts) = described?;
            let impacts = impacts.iter();
            let impacts = impacts.map(|&[frequency, length]| norms.impact(frequency, length));
            directory.blocks.push(block);
            directory.impacts.push(impacts.fold(0.0, f32::max));
        }
        Ok(directory)
    }
}

/// The blocks of a directory, and the pairs of frequencies and lengths that none of their documents surpasses in both:
/// whatever k1 and b are, the best of a block's pairs is at least as good as its best document.
fn described(mut bytes: &[u8]) -> impl Iterator<Item = Result<(Block, &[[u8; 2]]), Damaged>> {
    let mut previous = Some(Block {
        first: 0,
        last: 0,
        start: 0,
        end: 0,
    });
    std::iter::from_fn(move || {
        let before = previous.take()?;
        if bytes.is_empty() {
            return None;
        }
        let described = describe(&before, &mut bytes);
        // After damage nothing makes sense.
        previous = described.as_ref().ok().map(|(block, _)| *block);
        Some(described)
    })
}

fn describe<'a>(before: &Block, bytes: &mut &'a [u8]) -> Result<(Block, &'a [[u8; 2]]), Damaged> {
    let after = |document: i64, step| document.checked_add_unsigned(step).ok_or(Damaged);
    let first = after(before.last, read_number(bytes)?)?;
    let last = after(first, read_number(bytes)?)?;
    let size = usize::try_from(read_number(bytes)?).map_err(|_| Damaged)?;
    let end = before.end.checked_add(size).ok_or(Damaged)?;
    let (&count, rest) = bytes.split_first().ok_or(Damaged)?;
    let (pairs, rest) = rest
        .split_at_checked(2 * usize::from(count))
        .ok_or(Damaged)?;
    *bytes = rest;
    let block = Block {
        first,
        last,
        start: before.end,
        end,
    };
    Ok((block, pairs.as_chunks().0))
}

impl Block {
    /// Adds the postings that these bytes hold.
    pub fn decode(&self, mut bytes: &[u8], postings: &mut Vec<Posting>) -> Result<(), Damaged> {
        let mut document = self.first;
        while !bytes.is_empty() {
            let (step, frequency, length);
            // Mostly the next document is near.
            if let Some((&[near @ ..0x80, one, other], rest)) = bytes.split_first_chunk() {
                (step, frequency, length) = (u64::from(near), one, other);
                bytes = rest;
            } else {
                step = read_number(&mut bytes)?;
                let (&[one, other], rest) = bytes.split_first_chunk().ok_or(Damaged)?;
                (frequency, length) = (one, other);
                bytes = rest;
            }
            document = document.checked_add_unsigned(step).ok_or(Damaged)?;
            postings.push(Posting {
                document,
                frequency,
                length,
            });
        }
        match document == self.last {
            true => Ok(()),
            false => Err(Damaged),
        }
    }
}

/// The pairs of a block (see [`described`]), few of them.
fn best_impacts(block: &[Posting]) -> Vec<[u8; 2]> {
    let mut impacts: Vec<[u8; 2]> = block
        .iter()
        .map(|posting| [posting.frequency, posting.length])
        .collect();
    // The shortest first, of those the most frequent: then one counts only if it is more frequent than all before.
    impacts.sort_by_key(|&[frequency, length]| (length, std::cmp::Reverse(frequency)));
    let mut best: Vec<[u8; 2]> = Vec::new();
    for impact in impacts {
        if best.last().is_none_or(|last| impact[0] > last[0]) {
            best.push(impact);
        }
    }
    // Two neighbours become one that is as good as both.
    while best.len() > IMPACTS_MAX {
        let at = (0..best.len() - 1)
            .min_by_key(|&at| {
                let [one, other] = [best[at], best[at + 1]];
                u32::from(other[1] - one[1]) * u32::from(other[0] - one[0])
            })
            .unwrap_or(0);
        best[at][0] = best[at + 1][0];
        best.remove(at + 1);
    }
    best
}

/// LEB128.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[inline]
fn read_number(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Damaged)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
#[path = "posting_list_tests.rs"]
pub(super) mod tests;
