//! Index units: which consecutive segments go together, and the text that search and models read of them.
//!
//! - [`pack`]: ranges that fit a model's token budget;
//! - [`split_sentences`]: what a range may not cut: sentences, wherever their segments end;
//! - [`kept_ranges`]: ranges that an edit left as they were, so that they need not be embedded again;
//! - [`section_titles`]: where in a document a segment stands;
//! - [`render`]: the text that is embedded.

mod keeping;
mod packing;
mod sections;
mod stretches;
mod template;

pub use keeping::{PreviousChunk, kept_ranges};
pub use packing::{ChunkBudget, pack};
pub use sections::section_titles;
pub use stretches::{SplitSentence, split_sentences};
pub use template::{ChunkFields, render};

/// What is packed: a sentence, or a piece of one that is too long for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'a> {
    /// The turn or section that it belongs to; chunks end where it changes, if they are full enough.
    pub turn: u32,
    /// Whether it begins a line; others follow the one before after a space.
    pub starts_line: bool,
    /// Who says it.
    pub speaker: Option<&'a str>,
    pub content: &'a str,
    /// Tokens of the content under the embedding model's tokenizer, without special tokens.
    pub token_count: u32,
    /// Tokens of its [`speaker_label`]; 0 without a speaker.
    pub label_tokens: u32,
}

const LABEL_END: &str = ": ";

/// What stands in front of what somebody says.
pub fn speaker_label(speaker: &str) -> String {
    [speaker, LABEL_END].concat()
}

impl<'a> Unit<'a> {
    /// Tokens of the label that it has in a chunk, whose first unit begins a line anyway.
    fn label_tokens_in_chunk(&self, is_first: bool) -> u32 {
        match is_first || self.starts_line {
            true => self.label_tokens,
            false => 0,
        }
    }

    /// The unit with its speaker in front, as it stands where a line begins.
    fn labelled(&self) -> [&'a str; 3] {
        match self.speaker {
            Some(speaker) => [speaker, LABEL_END, self.content],
            None => ["", "", self.content],
        }
    }
}

/// The text of consecutive units: a line for each that starts one, with its speaker in front.
pub fn chunk_text(units: &[Unit]) -> String {
    (0..units.len())
        .flat_map(|position| text_parts(units, position))
        .collect()
}

/// Tokens of [`chunk_text`].
pub fn chunk_tokens(units: &[Unit]) -> u32 {
    let tokens = |(position, unit): (usize, &Unit)| {
        unit.token_count + unit.label_tokens_in_chunk(position == 0)
    };
    units.iter().enumerate().map(tokens).sum()
}

/// What the unit at `position` adds to the text of a chunk that begins with the first of `units`.
fn text_parts<'a>(units: &[Unit<'a>], position: usize) -> [&'a str; 4] {
    let unit = units[position];
    if position > 0 && !unit.starts_line {
        return [" ", "", "", unit.content];
    }
    let [speaker, colon, content] = unit.labelled();
    let line_feed = if position > 0 { "\n" } else { "" };
    [line_feed, speaker, colon, content]
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod keeping_tests;
