//! Builds a tokenizer from the vocabulary in a GGUF file.
//!
//! By hand, because candle's own `TokenizerFromGguf` treats unknown pre-tokenizers as GPT-2's and
//! thereby keeps the digits of SmolLM2 together and puts a space before each text.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::text::byte_level;

/// How Llama 3 cuts a text into words before merging.
const LLAMA_3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The kinds of vocabulary entries, as GGUF numbers them.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// A tokenizer for plain text, with what is needed to go back and to frame conversations.
pub(super) struct GgufVocabulary {
    /// Knows no control tokens, so no text can produce one.
    pub plain: Tokenizer,
    /// Spelling and id of each control token.
    pub control: Vec<(String, u32)>,
    /// The bytes each id stands for; none for control tokens.
    pub bytes: Vec<Box<[u8]>>,
}

pub(super) fn read(file: &GgufFile) -> Result<GgufVocabulary, Error> {
    let kind = file.text("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(file.refuse(format!(
            "tokenizer \"{kind}\" is not supported, only \"gpt2\""
        )));
    }
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let kinds = file.codes("tokenizer.ggml.token_type")?;
    if kinds.len() != tokens.len() {
        return Err(file.refuse("\"tokenizer.ggml.token_type\" does not match the tokens"));
    }
    let entries = || (0u32..).zip(tokens.iter().copied().zip(kinds.iter().copied()));

    let vocabulary = entries().filter(|(_, (_, kind))| *kind == NORMAL || *kind == USER_DEFINED);
    let vocabulary: Vocab = vocabulary
        .map(|(id, (token, _))| (token.to_owned(), id))
        .collect();
    let (pre_tokenizer, ignore_merges) = pre_tokenizer(file)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges(file)?)
        .ignore_merges(ignore_merges);
    let bpe = bpe
        .build()
        .map_err(|error| file.refuse(format!("bad vocabulary: {error}")))?;
    let mut plain = Tokenizer::new(bpe);
    plain.with_pre_tokenizer(Some(pre_tokenizer));
    let user_defined = entries().filter(|(_, (_, kind))| *kind == USER_DEFINED);
    let user_defined: Vec<_> = user_defined
        .map(|(_, (token, _))| AddedToken::from(token.to_owned(), false).normalized(false))
        .collect();
    plain.add_tokens(user_defined).map_err(Error::Tokenizer)?;

    let control = entries().filter(|(_, (_, kind))| *kind == CONTROL);
    let control = control
        .map(|(id, (token, _))| (token.to_owned(), id))
        .collect();
    let bytes = entries().map(|(_, (token, kind))| match kind {
        NORMAL => byte_level::bytes_of(token),
        USER_DEFINED => token.as_bytes().into(),
        _ => Box::default(),
    });
    let bytes = bytes.collect();
    Ok(GgufVocabulary {
        plain,
        control,
        bytes,
    })
}

fn merges(file: &GgufFile) -> Result<Vec<(String, String)>, Error> {
    let pair = |merge: &&str| {
        merge
            .split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let merges = file.texts("tokenizer.ggml.merges")?;
    let merges: Option<_> = merges.iter().map(pair).collect();
    merges.ok_or_else(|| file.refuse("\"tokenizer.ggml.merges\" holds an entry that is no pair"))
}

/// The pre-tokenizer, and whether a word that is in the vocabulary skips the merges.
fn pre_tokenizer(file: &GgufFile) -> Result<(PreTokenizerWrapper, bool), Error> {
    match file.text("tokenizer.ggml.pre")? {
        "smollm" => {
            let words = ByteLevel::new(false, true, true);
            Ok((
                Sequence::new(vec![Digits::new(true).into(), words.into()]).into(),
                false,
            ))
        }
        "gpt-2" => Ok((ByteLevel::new(false, true, true).into(), false)),
        "llama-bpe" | "llama3" | "llama-v3" => {
            let pattern = SplitPattern::Regex(LLAMA_3_WORDS.to_owned());
            let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(Error::Tokenizer)?;
            let bytes = ByteLevel::new(false, true, false);
            Ok((Sequence::new(vec![words.into(), bytes.into()]).into(), true))
        }
        other => Err(file.refuse(format!("pre-tokenizer \"{other}\" is not supported"))),
    }
}
