//! What the server asks of an embedding model.

use crate::error::Error;

/// Turns token sequences into vectors.
pub trait EmbeddingModel: Send {
    /// Length of a vector.
    fn dimensions(&self) -> usize;

    /// Most tokens of one sequence, special tokens included.
    fn tokens_max(&self) -> usize;

    /// One vector per sequence, in order. Sequences are neither empty nor too long, and hold the
    /// special tokens already.
    fn embed(&mut self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error>;
}
