//! Bounds of the contract, each stated beside its field in the `.proto` file.

use std::ops::Range;

/// Texts in one embedding request.
pub const EMBED_TEXTS_MAX: usize = 512;
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

/// Cuts texts into ranges that one request may hold. A text that is too large alone gets a range of its
/// own and is left to the contract's check.
pub fn batches(texts: &[String], texts_max: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (position, text) in texts.iter().enumerate() {
        let is_full = position - start == texts_max || bytes + text.len() > TEXT_BYTES_MAX;
        if is_full && position > start {
            ranges.push(start..position);
            (start, bytes) = (position, 0);
        }
        bytes += text.len();
    }
    if start < texts.len() {
        ranges.push(start..texts.len());
    }
    ranges
}
