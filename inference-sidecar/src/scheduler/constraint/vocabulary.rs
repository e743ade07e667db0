//! The tokens of a language model as bytes, in the form that llguidance walks.

use std::sync::Arc;

use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::text::ChatTokenizer;

/// Longest token that may occur in constrained text; the trie takes no longer ones.
const TOKEN_BYTES_MAX: usize = 512;
/// Bytes that begin a special token in llguidance's own convention; never a part of UTF-8.
const SPECIAL: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// What each row of a model's scores stands for.
pub(super) struct Vocabulary {
    /// The bytes of each token; empty where the token may not occur in constrained text.
    words: Vec<Vec<u8>>,
    /// The tokens that end a text; never empty.
    ends: Vec<TokenId>,
    tokenizer: Option<Arc<ChatTokenizer>>,
}

impl Vocabulary {
    /// `rows` is the number of scores per step, at least the number of tokens.
    /// Control tokens and rows without a token stand for nothing.
    pub(super) fn new(tokenizer: &Arc<ChatTokenizer>, rows: usize) -> Self {
        let tokens = 0..rows as u32;
        let words = tokens.clone().map(|token| tokenizer.bytes(token).to_vec());
        Self {
            words: words.collect(),
            ends: tokens.filter(|&token| tokenizer.is_end(token)).collect(),
            tokenizer: Some(tokenizer.clone()),
        }
    }

    /// All 256 bytes, each its own token, and one more that ends the text: for trials without a model.
    pub(super) fn of_bytes() -> Self {
        let mut words: Vec<_> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        words.push(Vec::new());
        Self {
            words,
            ends: vec![256],
            tokenizer: None,
        }
    }

    /// None when no token can end a text.
    pub(super) fn into_trie(mut self) -> Option<TrieVocabulary> {
        let is_unusable = |word: &[u8]| word.len() > TOKEN_BYTES_MAX || word.contains(&SPECIAL);
        for (token, word) in (0..).zip(&mut self.words) {
            if is_unusable(word) || self.ends.contains(&token) {
                word.clear();
            }
        }
        let info = TokRxInfo::new(self.words.len() as u32, *self.ends.first()?);
        let trie = TokTrie::from(&info, &self.words).with_eos_tokens(&self.ends);
        Some(TrieVocabulary {
            trie,
            tokenizer: self.tokenizer,
        })
    }
}

/// A vocabulary as a trie, with the tokenizer that knows how the model spells forced text.
pub(super) struct TrieVocabulary {
    trie: TokTrie,
    tokenizer: Option<Arc<ChatTokenizer>>,
}

impl TokenizerEnv for TrieVocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let Some(tokenizer) = &self.tokenizer else {
            return self.trie.greedy_tokenize(bytes);
        };
        let encode = |text: &str| {
            let tokens = tokenizer.text().encode(text);
            tokens.unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        };
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }

    /// True: text that a constraint leaves no choice about comes in the tokens that the model knows it by.
    fn tokenize_is_canonical(&self) -> bool {
        self.tokenizer.is_some()
    }
}
