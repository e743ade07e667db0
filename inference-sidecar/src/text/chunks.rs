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

/// The pieces of `text` in order, each of at most `tokens_max` tokens and without white space at its
/// ends; `overlap_tokens` is less than `tokens_max`.
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
    let ranges = splitter.try_chunk_char_indices(text).map(|found| {
        let found = found?;
        Ok(ChunkRange {
            start_char: found.char_offset,
            end_char: found.char_offset + found.chunk.chars().count(),
            token_count: tokenizer.encode(found.chunk)?.len(),
        })
    });
    ranges.collect()
}

struct TokenCount<'a>(&'a TextTokenizer);

impl TryChunkSizer for TokenCount<'_> {
    type Error = Error;

    fn try_size(&self, chunk: &str) -> Result<usize, Error> {
        Ok(self.0.encode(chunk)?.len())
    }
}
