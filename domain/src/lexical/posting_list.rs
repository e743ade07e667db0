//! A term's list: the documents that have it, in blocks, and a directory that says of each block which documents it can
//! hold and how well one of them can do.

use super::Damaged;

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

/// A frequency and a length that no document of a block surpasses in both: whatever k1 and b are, the best of a block's
/// pairs is at least as good as its best document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impact {
    pub frequency: u8,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub first: i64,
    pub last: i64,
    /// Its place in the bytes of the postings.
    pub start: usize,
    pub end: usize,
    pub impacts: Vec<Impact>,
}

/// What is known of a list without its postings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    pub blocks: Vec<Block>,
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
        list.directory.extend(
            impacts
                .iter()
                .flat_map(|impact| [impact.frequency, impact.length]),
        );
        previous = last;
    }
    list
}

/// The postings of a whole list.
pub fn decode(list: &PostingList) -> Result<Vec<Posting>, Damaged> {
    let directory = Directory::decode(&list.directory)?;
    let mut postings = Vec::with_capacity(list.count as usize);
    for block in &directory.blocks {
        let bytes = list.postings.get(block.start..block.end).ok_or(Damaged)?;
        block.decode(bytes, &mut postings)?;
    }
    Ok(postings)
}

impl Directory {
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Damaged> {
        let mut blocks = Vec::new();
        let (mut previous, mut start) = (0_i64, 0_usize);
        while !bytes.is_empty() {
            let first = previous
                .checked_add_unsigned(read_number(&mut bytes)?)
                .ok_or(Damaged)?;
            let last = first
                .checked_add_unsigned(read_number(&mut bytes)?)
                .ok_or(Damaged)?;
            let size = usize::try_from(read_number(&mut bytes)?).map_err(|_| Damaged)?;
            let end = start.checked_add(size).ok_or(Damaged)?;
            let (&count, rest) = bytes.split_first().ok_or(Damaged)?;
            let (pairs, rest) = rest
                .split_at_checked(2 * usize::from(count))
                .ok_or(Damaged)?;
            bytes = rest;
            let impacts = pairs.chunks_exact(2).map(|pair| Impact {
                frequency: pair[0],
                length: pair[1],
            });
            blocks.push(Block {
                first,
                last,
                start,
                end,
                impacts: impacts.collect(),
            });
            (previous, start) = (last, end);
        }
        Ok(Self { blocks })
    }
}

impl Block {
    /// Adds the postings that these bytes hold.
    pub fn decode(&self, mut bytes: &[u8], postings: &mut Vec<Posting>) -> Result<(), Damaged> {
        let mut document = self.first;
        while !bytes.is_empty() {
            let step = read_number(&mut bytes)?;
            document = document.checked_add_unsigned(step).ok_or(Damaged)?;
            let (&[frequency, length], rest) = bytes.split_first_chunk().ok_or(Damaged)?;
            bytes = rest;
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

/// The pairs of a block that none of its others surpasses, few of them.
fn best_impacts(block: &[Posting]) -> Vec<Impact> {
    let mut impacts: Vec<Impact> = block
        .iter()
        .map(|posting| Impact {
            frequency: posting.frequency,
            length: posting.length,
        })
        .collect();
    // The shortest first, of those the most frequent: then one counts only if it is more frequent than all before.
    impacts.sort_by_key(|impact| (impact.length, std::cmp::Reverse(impact.frequency)));
    let mut best: Vec<Impact> = Vec::new();
    for impact in impacts {
        if best
            .last()
            .is_none_or(|last| impact.frequency > last.frequency)
        {
            best.push(impact);
        }
    }
    // Two neighbours become one that is as good as both.
    while best.len() > IMPACTS_MAX {
        let at = (0..best.len() - 1)
            .min_by_key(|&at| {
                let (one, other) = (best[at], best[at + 1]);
                u32::from(other.length - one.length) * u32::from(other.frequency - one.frequency)
            })
            .unwrap_or(0);
        best[at].frequency = best[at + 1].frequency;
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
