//! Splits a text at the best borders that keep each piece within a token budget.

use text_splitter::{ChunkConfig, TextSplitter, TryChunkSizer};

use crate::error::Error;
use crate::text::TextTokenizer;

/// A piece of a text, as a range of Unicode scalar values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRange {
    pub start_char: usize,
    pub end_char: usize,
    pub token_count: usize,
}

/// Least bytes of text that the splitter sees at a time.
const WINDOW_BYTES_MIN: usize = 8 << 10;
/// Bytes of a window per token of the budget: room for several chunks of any script.
const WINDOW_BYTES_PER_TOKEN: usize = 32;

/// The pieces of `text` in order, each of at most `tokens_max` tokens and without white space at its
/// ends; `overlap_tokens` is less than `tokens_max`.
///
/// The splitter sees one window of the text at a time, because its time grows faster than the text
/// where there are no borders. The last chunk of a window begins the next one.
pub fn chunk(
    tokenizer: &TextTokenizer,
    text: &str,
    tokens_max: usize,
    overlap_tokens: usize,
) -> Result<Vec<ChunkRange>, Error> {
    let config = ChunkConfig::new(tokens_max)
        .with_sizer(TokenCount(tokenizer))
        .with_overlap(overlap_tokens)
        .map_err(|_| Error::ChunkBudget { tokens_max })?;
    let splitter = TextSplitter::new(config);
    let window_bytes = WINDOW_BYTES_MIN.max(tokens_max.saturating_mul(WINDOW_BYTES_PER_TOKEN));

    let mut ranges = Vec::new();
    let (mut start, mut start_char, mut size) = (0, 0, window_bytes);
    while start < text.len() {
        let end = text.ceil_char_boundary(start.saturating_add(size));
        let window = &text[start..end];
        let mut found = splitter
            .try_chunk_char_indices(window)
            .collect::<Result<Vec<_>, _>>()?;
        let is_last = end == text.len();
        // A chunk that fills the window may go on behind it.
        if found.len() == 1 && !is_last {
            size = size.saturating_mul(2);
            continue;
        }
        let next = if is_last { None } else { found.pop() };
        for chunk in found {
            let first_char = start_char + chunk.char_offset;
            ranges.push(ChunkRange {
                start_char: first_char,
                end_char: first_char + chunk.chunk.chars().count(),
                token_count: tokenizer.encode(chunk.chunk)?.len(),
            });
        }
        let consumed = next.map_or(window.len(), |chunk| chunk.byte_offset);
        start_char += window[..consumed].chars().count();
        start += consumed;
        size = window_bytes;
    }
    Ok(ranges)
}

struct TokenCount<'a>(&'a TextTokenizer);

impl TryChunkSizer for TokenCount<'_> {
    type Error = Error;

    fn try_size(&self, chunk: &str) -> Result<usize, Error> {
        Ok(self.0.encode(chunk)?.len())
    }
}
