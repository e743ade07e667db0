//! Token ids of plain texts: what Tokenize, CountTokens, Chunk and Embed share.

use std::path::Path;

use proto::model::TextPurpose;
use tokenizers::Tokenizer;

use crate::error::Error;
use crate::text::prompts::Prompts;
use crate::text::sentence_pieces::SentencePieces;

/// A model's tokenizer without truncation and padding, and the special tokens around one text.
pub struct TextTokenizer {
    encoder: Encoder,
    /// Before the text: CLS for BERT, BOS for some Llamas.
    prefix: Vec<u32>,
    /// After the text: SEP for BERT.
    suffix: Vec<u32>,
    prompts: Prompts,
}

/// Makes token ids of plain text.
pub(super) enum Encoder {
    /// Byte pairs and word pieces.
    Library(Box<Tokenizer>),
    SentencePieces(SentencePieces),
}

impl TextTokenizer {
    /// Reads `tokenizer.json` and the prompts of an embedding model's directory.
    pub fn from_directory(directory: &Path) -> Result<Self, Error> {
        let tokenizer = Self::from_file(&directory.join("tokenizer.json"))?;
        Ok(Self {
            prompts: Prompts::read(directory)?,
            ..tokenizer
        })
    }

    /// Reads a `tokenizer.json` of Hugging Face.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let mut inner = Tokenizer::from_file(path)
            .map_err(|error| Error::model_file(path, format!("not a tokenizer: {error}")))?;
        // The file's own limits are those of its training; the model's own are applied by the caller.
        inner.with_truncation(None).map_err(Error::Tokenizer)?;
        inner.with_padding(None);
        // The frame of special tokens is what the tokenizer puts around any text.
        let bare = inner.encode_fast("a", false).map_err(Error::Tokenizer)?;
        let framed = inner.encode_fast("a", true).map_err(Error::Tokenizer)?;
        let (bare, framed) = (bare.get_ids(), framed.get_ids());
        let start = framed
            .windows(bare.len().max(1))
            .position(|window| window == bare);
        let start =
            start.ok_or_else(|| Error::model_file(path, "special tokens do not frame the text"))?;
        let (prefix, suffix) = (
            framed[..start].to_vec(),
            framed[start + bare.len()..].to_vec(),
        );
        Ok(Self {
            encoder: Encoder::Library(Box::new(inner)),
            prefix,
            suffix,
            prompts: Prompts::default(),
        })
    }

    /// A tokenizer that is built already; `prefix` comes before each text.
    pub(super) fn new(encoder: Encoder, prefix: Vec<u32>) -> Self {
        Self {
            encoder,
            prefix,
            suffix: Vec::new(),
            prompts: Prompts::default(),
        }
    }

    /// Reads `tokenizer.json` of a model that reads two texts together, which must frame them as BERT does: the second
    /// follows the first, and what ends the first ends it too.
    pub fn for_pairs(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("tokenizer.json");
        let tokenizer = Self::from_file(&path)?;
        if let Encoder::Library(library) = &tokenizer.encoder {
            let text = tokenizer.encode("a")?;
            let framed = library.encode_fast(("a", "a"), true);
            let framed = framed.map_err(Error::Tokenizer)?;
            if framed.get_ids() == tokenizer.with_special_tokens_of_pair(&text, &text) {
                return Ok(tokenizer);
            }
        }
        Err(Error::model_file(
            path,
            "it frames no pairs of texts as BERT does",
        ))
    }

    /// The tokens of `text` alone.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encoder.encode(text)
    }

    /// The tokens of `text` behind the words that the model wants before a text of this purpose;
    /// none when `text` itself has none.
    pub fn encode_for(&self, purpose: TextPurpose, text: &str) -> Result<Vec<u32>, Error> {
        let tokens = self.encode(text)?;
        match self.prompts.before(purpose) {
            prompt if prompt.is_empty() || tokens.is_empty() => Ok(tokens),
            prompt => self.encode(&[prompt, text].concat()),
        }
    }

    /// One more than the largest id that a text can get.
    pub fn vocabulary_size(&self) -> usize {
        let frame = self.prefix.iter().chain(&self.suffix).max();
        let frame = frame.map_or(0, |&id| id as usize + 1);
        frame.max(self.encoder.vocabulary_size())
    }

    /// `tokens` as the model wants to see them.
    pub fn with_special_tokens(&self, tokens: &[u32]) -> Vec<u32> {
        [&self.prefix, tokens, &self.suffix].concat()
    }

    /// Two texts as a cross-encoder wants to see them. Neither may have tokens of the frame: see [`Self::without_frame`].
    pub fn with_special_tokens_of_pair(&self, first: &[u32], second: &[u32]) -> Vec<u32> {
        [&self.prefix, first, &self.suffix, second, &self.suffix].concat()
    }

    /// `tokens` without those of the frame, which a text may spell.
    pub fn without_frame(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        tokens.retain(|token| !self.prefix.contains(token) && !self.suffix.contains(token));
        tokens
    }

    /// The last token of each text's frame; None where there is none.
    pub fn separator(&self) -> Option<u32> {
        self.suffix.last().copied()
    }

    /// Special tokens that a pair of texts gets.
    pub fn special_token_count_of_pair(&self) -> usize {
        self.special_token_count() + self.suffix.len()
    }

    /// Tokens that a passage gets: special ones and those of its prompt.
    pub fn passage_added_tokens(&self) -> usize {
        let prompt = self.encode(self.prompts.before(TextPurpose::Passage));
        self.special_token_count() + prompt.map_or(0, |tokens| tokens.len())
    }

    /// Special tokens that a text gets.
    pub fn special_token_count(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }
}

impl Encoder {
    /// The tokens of `text`, without any frame.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self {
            Encoder::Library(tokenizer) => {
                let encoding = tokenizer.encode_fast(text, false);
                Ok(encoding.map_err(Error::Tokenizer)?.get_ids().to_vec())
            }
            Encoder::SentencePieces(pieces) => Ok(pieces.encode(text)),
        }
    }

    fn vocabulary_size(&self) -> usize {
        let last = match self {
            Encoder::Library(tokenizer) => tokenizer.get_vocab(true).into_values().max(),
            Encoder::SentencePieces(pieces) => pieces.last_id(),
        };
        last.map_or(0, |id| id as usize + 1)
    }
}
