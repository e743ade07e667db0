//! What the server asks of a model that turns token sequences into numbers.

use crate::error::Error;

/// Turns token sequences into vectors; those of a cross-encoder have one value.
pub trait EmbeddingModel: Send {
    /// Length of a vector.
    fn dimensions(&self) -> usize;

    /// Most tokens of one sequence, special tokens included.
    fn tokens_max(&self) -> usize;

    /// Number of token ids; all ids are below it.
    fn vocabulary_size(&self) -> usize;

    /// One vector per sequence, in order. Sequences are neither empty nor too long, and hold the
    /// special tokens already. `pause` is called before each layer and may embed something else.
    fn embed(&self, batch: &[&[u32]], pause: &mut dyn FnMut()) -> Result<Vec<Vec<f32>>, Error>;
}
