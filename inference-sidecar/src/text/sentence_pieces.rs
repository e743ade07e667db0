//! Sentencepiece's byte-pair vocabularies (Llama 2): the neighbours whose union scores best are
//! joined first. Source: Google's sentencepiece, `bpe_model.cc`; pieces are joined as llama.cpp
//! does it.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// How sentencepiece writes a space.
pub(super) const SPACE: char = '\u{2581}';

/// A vocabulary of scored pieces.
pub(super) struct SentencePieces {
    /// Ordinary pieces only; no text can produce a byte's or a control token's spelling.
    pieces: HashMap<Box<str>, Piece>,
    /// Kept whole wherever they stand; longest first.
    user_defined: Vec<(String, u32)>,
    /// For what no piece covers.
    bytes: Box<[u32; 256]>,
    /// Each text gets a space in front, as the first word of a sentence looks like the others.
    adds_space: bool,
}

/// An ordinary entry of the vocabulary; higher scores are joined earlier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub id: u32,
    pub score: f32,
}

/// A part of the text that is joined already, with its living neighbours.
struct Symbol {
    start: usize,
    /// Empty once it belongs to its left neighbour.
    end: usize,
    left: Option<usize>,
    right: Option<usize>,
}

/// Two neighbours whose union is a piece.
struct Join {
    score: f32,
    left: usize,
    right: usize,
    /// Where the union lies; tells whether one of the two has changed since.
    start: usize,
    end: usize,
}

impl SentencePieces {
    pub(super) fn new(
        pieces: HashMap<Box<str>, Piece>,
        mut user_defined: Vec<(String, u32)>,
        bytes: Box<[u32; 256]>,
        adds_space: bool,
    ) -> Self {
        user_defined.retain(|(spelling, _)| !spelling.is_empty());
        user_defined.sort_by_key(|(spelling, _)| std::cmp::Reverse(spelling.len()));
        Self {
            pieces,
            user_defined,
            bytes,
            adds_space,
        }
    }

    /// The ids of `text`.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let (mut plain_start, mut position) = (0, 0);
        // Without user-defined pieces there is nothing to look for.
        while position < text.len() && !self.user_defined.is_empty() {
            let rest = &text[position..];
            match self
                .user_defined
                .iter()
                .find(|(spelling, _)| rest.starts_with(spelling))
            {
                Some((spelling, id)) => {
                    self.encode_plain(&text[plain_start..position], &mut ids);
                    ids.push(*id);
                    position += spelling.len();
                    plain_start = position;
                }
                None => position += rest.chars().next().map_or(1, char::len_utf8),
            }
        }
        self.encode_plain(&text[plain_start..], &mut ids);
        ids
    }

    /// The largest id that a text can get.
    pub(super) fn last_id(&self) -> Option<u32> {
        let pieces = self.pieces.values().map(|piece| piece.id);
        let user_defined = self.user_defined.iter().map(|&(_, id)| id);
        pieces.chain(user_defined).chain(*self.bytes).max()
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut escaped = String::with_capacity(text.len() + SPACE.len_utf8());
        if self.adds_space {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for symbol in self.join_all(&escaped) {
            let spelling = &escaped[symbol.start..symbol.end];
            match self.pieces.get(spelling) {
                Some(piece) => ids.push(piece.id),
                None => ids.extend(spelling.bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }

    /// The living symbols of `text`, in order.
    fn join_all(&self, text: &str) -> impl Iterator<Item = Symbol> {
        let mut symbols = characters(text);
        let mut joins = BinaryHeap::new();
        for right in 1..symbols.len() {
            joins.extend(self.join(text, &symbols, right - 1, right));
        }
        while let Some(join) = joins.pop() {
            let (left, right) = (&symbols[join.left], &symbols[join.right]);
            let is_current = left.start < left.end
                && right.start < right.end
                && (left.start, right.end) == (join.start, join.end);
            if !is_current {
                continue;
            }
            let next = right.right;
            symbols[join.right].end = symbols[join.right].start;
            symbols[join.left].end = join.end;
            symbols[join.left].right = next;
            if let Some(next) = next {
                symbols[next].left = Some(join.left);
                joins.extend(self.join(text, &symbols, join.left, next));
            }
            if let Some(previous) = symbols[join.left].left {
                joins.extend(self.join(text, &symbols, previous, join.left));
            }
        }
        symbols
            .into_iter()
            .filter(|symbol| symbol.start < symbol.end)
    }

    fn join(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Join> {
        let (start, end) = (symbols[left].start, symbols[right].end);
        let piece = self.pieces.get(&text[start..end])?;
        Some(Join {
            score: piece.score,
            left,
            right,
            start,
            end,
        })
    }
}

fn characters(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<_> = text
        .char_indices()
        .enumerate()
        .map(|(index, (start, c))| Symbol {
            start,
            end: start + c.len_utf8(),
            left: index.checked_sub(1),
            right: Some(index + 1),
        })
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.right = None;
    }
    symbols
}

/// The best score first; of equals the leftmost.
impl Ord for Join {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Join {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Join {}

/// The byte that a piece spelled like `<0x0A>` stands for.
pub(super) fn byte_of(spelling: &str) -> Option<u8> {
    let digits = spelling.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The bytes of an ordinary piece.
pub(super) fn bytes_of(spelling: &str) -> Box<[u8]> {
    let text: String = spelling
        .chars()
        .map(|c| if c == SPACE { ' ' } else { c })
        .collect();
    text.into_bytes().into()
}
