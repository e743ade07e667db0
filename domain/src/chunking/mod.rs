//! Index units: which consecutive segments go together, and the text that search and models read of them.
//!
//! - [`pack`]: ranges that fit a model's token budget;
//! - [`kept_ranges`]: ranges that an edit left as they were, so that they need not be embedded again;
//! - [`section_titles`]: where in a document a segment stands;
//! - [`render`]: the text that is embedded.

mod keeping;
mod packing;
mod sections;
mod template;

pub use keeping::{PreviousChunk, kept_ranges};
pub use packing::{ChunkBudget, pack};
pub use sections::section_titles;
pub use template::{ChunkFields, render};

/// What is packed: a segment, or a piece of one that is too long for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'a> {
    /// The turn or section that it belongs to; chunks end where it changes, if they are full enough.
    pub turn: u32,
    /// Who says it.
    pub speaker: Option<&'a str>,
    pub content: &'a str,
    /// Tokens of [`Unit::line`] under the embedding model's tokenizer, without special tokens.
    pub token_count: u32,
}

impl<'a> Unit<'a> {
    /// The unit with its speaker in front, as it stands where a turn begins.
    pub fn line(&self) -> String {
        self.labelled().concat()
    }

    fn labelled(&self) -> [&'a str; 3] {
        match self.speaker {
            Some(speaker) => [speaker, ": ", self.content],
            None => ["", "", self.content],
        }
    }
}

/// The text of consecutive units: one line each, and the speaker named where a turn begins.
pub fn chunk_text(units: &[Unit]) -> String {
    (0..units.len())
        .flat_map(|position| text_parts(units, position))
        .collect()
}

/// What the unit at `position` adds to the text of a chunk that begins with the first of `units`.
fn text_parts<'a>(units: &[Unit<'a>], position: usize) -> [&'a str; 4] {
    let unit = units[position];
    let goes_on = |before: &Unit| before.turn == unit.turn && unit.speaker.is_some();
    match position.checked_sub(1).map(|before| &units[before]) {
        Some(before) if goes_on(before) => [" ", "", "", unit.content],
        before => {
            let [speaker, colon, content] = unit.labelled();
            let line_feed = if before.is_some() { "\n" } else { "" };
            [line_feed, speaker, colon, content]
        }
    }
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod keeping_tests;
