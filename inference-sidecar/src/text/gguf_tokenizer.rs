//! Builds a tokenizer from the vocabulary in a GGUF file: byte-level byte pairs ("gpt2") or
//! sentencepiece's scored pieces ("llama").
//!
//! By hand, because candle's own `TokenizerFromGguf` treats unknown pre-tokenizers as GPT-2's and
//! thereby keeps the digits of SmolLM2 together and puts a space before each text.

use std::collections::HashMap;

use tokenizers::AddedToken;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::error::Error;
use crate::gguf::GgufFile;
use crate::text::byte_level;
use crate::text::chat_tokenizer::ChatParts;
use crate::text::sentence_pieces::{self, Piece, SentencePieces};
use crate::text::text_tokenizer::Encoder;
use crate::text::vocabulary::{BytePairs, ENTRIES_MAX, Vocabulary};

/// How Llama 3 cuts a text into words before merging.
const LLAMA_3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What files call it.
const LLAMA_3_NAMES: [&str; 3] = ["llama-bpe", "llama3", "llama-v3"];

/// The kinds of vocabulary entries, as GGUF numbers them.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// The entries of a vocabulary in order of their ids.
struct Entries<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<i64>,
}

/// Vocabulary, special tokens and template of the model in `file`.
pub(super) fn read(file: &GgufFile) -> Result<ChatParts, Error> {
    let mut entries = Entries::read(file)?;
    let bos = entries.special(file, "bos")?;
    let eos = entries.special(file, "eos")?;
    let eos = eos.ok_or_else(|| file.refuse("\"tokenizer.ggml.eos_token_id\" is missing"))?;
    let mut ends = vec![eos.1];
    for name in ["eot", "eom"] {
        ends.extend(entries.special(file, name)?.map(|(_, id)| id));
    }
    // Some files call the tokens that frame texts ordinary ones.
    for id in ends.iter().copied().chain(bos.iter().map(|&(_, id)| id)) {
        entries.kinds[id as usize] = CONTROL;
    }
    let vocabulary = match file.text("tokenizer.ggml.model")? {
        "gpt2" => byte_pairs(file, &entries)?,
        "llama" => scored_pieces(file, &entries)?,
        other => {
            let reason =
                format!("tokenizer \"{other}\" is not supported, only \"gpt2\" and \"llama\"");
            return Err(file.refuse(reason));
        }
    };
    Ok(ChatParts {
        path: file.path().to_owned(),
        vocabulary,
        adds_bos: adds_bos(file)?,
        bos,
        eos: eos.0,
        ends,
        template: file.text("tokenizer.chat_template")?.to_owned(),
    })
}

/// Files may leave the flag out; these tokenizers are known to want BOS.
fn adds_bos(file: &GgufFile) -> Result<bool, Error> {
    if file.has("tokenizer.ggml.add_bos_token") {
        return file.flag("tokenizer.ggml.add_bos_token");
    }
    Ok(file.text("tokenizer.ggml.model")? == "llama"
        || LLAMA_3_NAMES.contains(&file.text("tokenizer.ggml.pre")?))
}

impl<'a> Entries<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, Error> {
        let tokens = file.texts("tokenizer.ggml.tokens")?;
        let kinds = file.codes("tokenizer.ggml.token_type")?;
        if kinds.len() != tokens.len() {
            return Err(file.refuse("\"tokenizer.ggml.token_type\" does not match the tokens"));
        }
        if tokens.len() > ENTRIES_MAX {
            return Err(file.refuse("the vocabulary is too large"));
        }
        Ok(Self { tokens, kinds })
    }

    /// Id, spelling and kind.
    fn iter(&self) -> impl Iterator<Item = (u32, &'a str, i64)> {
        let spelled = self.tokens.iter().zip(&self.kinds);
        (0u32..)
            .zip(spelled)
            .map(|(id, (token, kind))| (id, *token, *kind))
    }

    fn of_kind(&self, kind: i64) -> Vec<(String, u32)> {
        let entries = self.iter().filter(|&(_, _, found)| found == kind);
        entries
            .map(|(id, token, _)| (token.to_owned(), id))
            .collect()
    }

    /// The token that the file gives this part, when it does.
    fn special(&self, file: &GgufFile, part: &str) -> Result<Option<(String, u32)>, Error> {
        let key = format!("tokenizer.ggml.{part}_token_id");
        if !file.has(&key) {
            return Ok(None);
        }
        let id = file.count_in(&key, 0..=self.tokens.len().saturating_sub(1))?;
        let token = self.tokens.get(id);
        let token = token.ok_or_else(|| file.refuse("the vocabulary is empty"))?;
        Ok(Some(((*token).to_owned(), id as u32)))
    }

    fn bytes(&self, spell: impl Fn(&str) -> Box<[u8]>) -> Vec<Box<[u8]>> {
        let bytes = self.iter().map(|(_, token, kind)| match kind {
            NORMAL => spell(token),
            USER_DEFINED => token.as_bytes().into(),
            BYTE => sentence_pieces::byte_of(token).into_iter().collect(),
            _ => Box::default(),
        });
        bytes.collect()
    }
}

fn byte_pairs(file: &GgufFile, entries: &Entries) -> Result<Vocabulary, Error> {
    let user_defined = entries.of_kind(USER_DEFINED);
    let added = user_defined
        .iter()
        .map(|(token, _)| AddedToken::from(token.clone(), false).normalized(false));
    let added = added.collect();
    let (pre_tokenizer, ignores_merges) = pre_tokenizer(file)?;
    let pairs = BytePairs {
        entries: [entries.of_kind(NORMAL), user_defined].concat(),
        merges: merges(file)?,
        ignores_merges,
        has_byte_fallback: false,
        added,
        normalizer: None,
        pre_tokenizer: Some(pre_tokenizer),
    };
    let control = entries.of_kind(CONTROL);
    let plain = pairs
        .build(&control)
        .map_err(|reason| file.refuse(reason))?;
    Ok(Vocabulary {
        plain: Encoder::Library(Box::new(plain)),
        plain_after_control: None,
        control,
        bytes: entries.bytes(byte_level::bytes_of),
    })
}

fn scored_pieces(file: &GgufFile, entries: &Entries) -> Result<Vocabulary, Error> {
    let scores = file.numbers("tokenizer.ggml.scores")?;
    if scores.len() != entries.tokens.len() {
        return Err(file.refuse("\"tokenizer.ggml.scores\" does not match the tokens"));
    }
    let normal = entries
        .iter()
        .zip(scores)
        .filter(|((_, _, kind), _)| *kind == NORMAL);
    let pieces: HashMap<_, _> = normal
        .map(|((id, token, _), score)| (token.into(), Piece { id, score }))
        .collect();
    let mut bytes = Box::new([None; 256]);
    for (token, id) in entries.of_kind(BYTE) {
        if let Some(byte) = sentence_pieces::byte_of(&token) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    // A byte that is missing becomes the unknown token, as in sentencepiece.
    let unknown = entries.special(file, "unknown")?.map(|(_, id)| id);
    let mut byte_ids = Box::new([0; 256]);
    for (id, byte) in byte_ids.iter_mut().zip(bytes.iter()) {
        *id = byte
            .or(unknown)
            .ok_or_else(|| file.refuse("the vocabulary lacks bytes"))?;
    }
    let adds_space = match file.has("tokenizer.ggml.add_space_prefix") {
        true => file.flag("tokenizer.ggml.add_space_prefix")?,
        false => true,
    };
    let user_defined = entries.of_kind(USER_DEFINED);
    let plain = SentencePieces::new(pieces, user_defined, byte_ids, adds_space);
    Ok(Vocabulary {
        plain: Encoder::SentencePieces(plain),
        plain_after_control: None,
        control: entries.of_kind(CONTROL),
        bytes: entries.bytes(sentence_pieces::bytes_of),
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
        name if LLAMA_3_NAMES.contains(&name) => {
            let pattern = SplitPattern::Regex(LLAMA_3_WORDS.to_owned());
            let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(Error::Tokenizer)?;
            let bytes = ByteLevel::new(false, true, false);
            Ok((Sequence::new(vec![words.into(), bytes.into()]).into(), true))
        }
        other => Err(file.refuse(format!("pre-tokenizer \"{other}\" is not supported"))),
    }
}
