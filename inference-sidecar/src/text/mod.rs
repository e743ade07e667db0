//! From text to tokens and back: tokenizers, chat templates, chunks, stop strings. Knows no tensors.

mod byte_level;
mod chat_template;
mod chat_tokenizer;
mod chunks;
mod control_tokens;
mod directory_tokenizer;
mod gguf_tokenizer;
mod prompts;
mod sentence_pieces;
mod text_tokenizer;
mod text_writer;
mod vocabulary;

pub use chat_tokenizer::ChatTokenizer;
pub use chunks::{ChunkRange, chunk};
pub use text_tokenizer::TextTokenizer;
pub use text_writer::TextWriter;
