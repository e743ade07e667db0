//! What both kinds of model files say of a vocabulary, and the byte-pair encoder made from it.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{AddedToken, Tokenizer};

use crate::text::text_tokenizer::Encoder;

/// Several times the largest known vocabulary; bounds what a damaged file can ask for.
pub(super) const ENTRIES_MAX: usize = 1 << 20;

/// A vocabulary with what is needed to go back and to frame conversations.
pub(super) struct Vocabulary {
    /// Knows no control tokens, so no text can produce one.
    pub plain: Encoder,
    /// Encodes a text that follows a control token, where that differs from the beginning.
    pub plain_after_control: Option<Encoder>,
    /// Spelling and id of each control token.
    pub control: Vec<(String, u32)>,
    /// The bytes each id stands for; none for control tokens.
    pub bytes: Vec<Box<[u8]>>,
}

/// A byte-pair encoder of plain text.
#[derive(Clone)]
pub(super) struct BytePairs {
    /// Every entry that text may become, `added` included.
    pub entries: Vec<(String, u32)>,
    /// Neighbours that are joined, the first ones first.
    pub merges: Vec<(String, String)>,
    /// A word that is an entry is not put together from its parts.
    pub ignores_merges: bool,
    /// What no entry covers is spelled byte by byte, as `<0x0A>`.
    pub has_byte_fallback: bool,
    /// Entries that are kept whole wherever they stand.
    pub added: Vec<AddedToken>,
    pub normalizer: Option<NormalizerWrapper>,
    pub pre_tokenizer: Option<PreTokenizerWrapper>,
}

impl BytePairs {
    /// The encoder; `control` are spellings that no text may become. The error is a reason for a
    /// person.
    pub(super) fn build(self, control: &[(String, u32)]) -> Result<Tokenizer, String> {
        let entries: Vocab = self.entries.into_iter().collect();
        let merges = checked_merges(self.merges, &entries, control)?;
        let bpe = BPE::builder()
            .vocab_and_merges(entries, merges)
            .ignore_merges(self.ignores_merges)
            .byte_fallback(self.has_byte_fallback);
        let bpe = bpe
            .build()
            .map_err(|error| format!("bad vocabulary: {error}"))?;
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer
            .with_normalizer(self.normalizer)
            .map_err(|error| format!("bad normalizer: {error}"))?;
        tokenizer.with_pre_tokenizer(self.pre_tokenizer);
        tokenizer
            .add_tokens(self.added)
            .map_err(|error| format!("bad added token: {error}"))?;
        Ok(tokenizer)
    }
}

/// The merges without those that lead to a control token or from one.
fn checked_merges(
    mut merges: Vec<(String, String)>,
    entries: &Vocab,
    control: &[(String, u32)],
) -> Result<Vec<(String, String)>, String> {
    let control: HashSet<&str> = control.iter().map(|(spelling, _)| &**spelling).collect();
    let mut joined = String::new();
    let mut is_broken = false;
    merges.retain(|(left, right)| {
        joined.clear();
        joined.extend([&**left, &**right]);
        let parts = [&**left, &**right, &*joined];
        let is_plain = !parts.iter().any(|part| control.contains(part));
        is_broken |= is_plain && !parts.iter().all(|part| entries.contains_key(*part));
        is_plain
    });
    match is_broken {
        true => Err("bad vocabulary: a merge joins what is no entry".into()),
        false => Ok(merges),
    }
}
