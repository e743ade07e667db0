//! Bounds of the contract, each stated beside its field in the `.proto` file.

use std::ops::Range;

/// Texts in one embedding request.
pub const EMBED_TEXTS_MAX: usize = 512;
/// Passages in one reranking request.
pub const RERANK_PASSAGES_MAX: usize = 512;
/// Bytes of the query of a reranking request.
pub const RERANK_QUERY_BYTES_MAX: usize = 64 << 10;
/// Texts in one tokenise or count request.
pub const COUNT_TEXTS_MAX: usize = 4096;
/// Bytes of all texts of one request together.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Smallest chunk budget, in tokens.
pub const CHUNK_TOKENS_MIN: u32 = 8;
/// Messages of one conversation.
pub const MESSAGES_MAX: usize = 64;
/// Bytes of all messages of one conversation together.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Tokens a generation makes when the request does not say.
pub const COMPLETION_TOKENS_DEFAULT: u32 = 256;
/// Stop strings of one request.
pub const STOP_STRINGS_MAX: usize = 8;
/// Bytes of one stop string.
pub const STOP_BYTES_MAX: usize = 64;
/// Highest temperature.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// Bytes of a JSON schema.
pub const JSON_SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Bytes of a regular expression.
pub const REGEX_BYTES_MAX: usize = 64 << 10;
/// Choices of one request.
pub const CHOICES_MAX: usize = 1024;
/// Bytes of one choice.
pub const CHOICE_BYTES_MAX: usize = 1024;
/// Alternatives that a token's log-probability may come with.
pub const TOP_LOGPROBS_MAX: u32 = 20;
/// Highest repetition penalty.
pub const REPETITION_PENALTY_MAX: f32 = 2.0;
/// Bytes of the names of callers and adapters.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of a cache salt.
pub const CACHE_SALT_BYTES_MAX: usize = 64;
/// Bytes of an adapter's file.
pub const ADAPTER_BYTES_MAX: u64 = 1 << 30;
/// Bytes of an adapter's `adapter_config.json`.
pub const ADAPTER_CONFIG_BYTES_MAX: usize = 64 << 10;
/// Bytes of one part of an adapter's file.
pub const ADAPTER_PART_BYTES_MAX: usize = 1 << 20;
/// Bytes of a document.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a part of it, as the client sends it.
pub const DOCUMENT_PART_BYTES: usize = 1 << 20;
/// Bytes of its text.
pub const DOCUMENT_TEXT_BYTES_MAX: usize = 12 << 20;
/// Bytes of its file's name, and of its media type.
pub const FILE_NAME_BYTES_MAX: usize = 1024;
pub const MEDIA_TYPE_BYTES_MAX: usize = 256;
/// Bytes of one gRPC message either way: a full batch of texts or vectors, with room to spare.
pub const MESSAGE_SIZE_MAX: usize = 16 << 20;

/// What texts together amount to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSize {
    pub texts: usize,
    pub bytes: usize,
    /// 0 where nobody counted them.
    pub tokens: usize,
}

/// Cuts texts of these sizes into ranges that have at most `most` and one request's bytes. A text that is too large
/// alone gets a range of its own and is left to the contract's check.
pub fn batches(sizes: impl IntoIterator<Item = BatchSize>, most: BatchSize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut end, mut batch) = (0, 0, BatchSize::default());
    for size in sizes {
        let sum = BatchSize {
            texts: batch.texts + size.texts,
            bytes: batch.bytes + size.bytes,
            tokens: batch.tokens + size.tokens,
        };
        let is_full = sum.texts > most.texts || sum.bytes > most.bytes || sum.tokens > most.tokens;
        if is_full && end > start {
            ranges.push(start..end);
            (start, batch) = (end, size);
        } else {
            batch = sum;
        }
        end += 1;
    }
    if start < end {
        ranges.push(start..end);
    }
    ranges
}
