//! What the server asks of a language model.

use crate::error::Error;

/// The weights; each sequence has its own memory of what it has read.
pub trait SequentialModel: Send {
    /// Most tokens of one sequence.
    fn tokens_max(&self) -> usize;

    /// A sequence that has read nothing.
    fn new_sequence(&self) -> Result<Box<dyn Sequence + '_>, Error>;
}

/// One text in the making: its position and its keys and values.
pub trait Sequence {
    /// Reads `tokens` (at least one, within the model's limit) and returns a score for each entry
    /// of the vocabulary: how well it comes next.
    fn append(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Error>;
}
