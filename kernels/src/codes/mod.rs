//! Vectors in two bits a dimension, and bounds of their cosines with a query that need nothing else: most of a million
//! vectors are passed over without being read.
//!
//! After RaBitQ (Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
//! Approximate Nearest Neighbor Search", SIGMOD 2024, arXiv 2405.12497): a vector is moved by the centre of all, turned
//! at random, and rounded; how far the rounded one can mislead is known for each vector. Products are looked up four
//! dimensions at a time, sixteen vectors at once (André et al., "Cache locality is not enough", VLDB 2015).
//!
//! - `rotation`: turning a vector
//! - `encoder`: vectors to groups of sixteen codes
//! - `query`: a query, and bounds of what a group holds

mod encoder;
mod query;
mod rotation;

pub use encoder::Encoder;
pub use query::CodeQuery;
use rotation::rotate;

/// Vectors of a group.
pub const GROUP_VECTORS: usize = 16;
/// The errors of fewer dimensions are not those of many.
pub const CODE_DIMENSIONS_MIN: usize = 32;
/// More dimensions do not fit a page of PostgreSQL, sixteen vectors at a time.
pub const CODE_DIMENSIONS_MAX: usize = 1920;

/// Bytes before the codes of a group: of each vector its id, its product with the centre, the factor of its code's
/// products and their error.
const HEAD_BYTES: usize = GROUP_VECTORS * (8 + 3 * 4);

/// How vectors of so many dimensions are turned and laid out.
#[derive(Debug, Clone)]
pub struct CodeShape {
    dimensions: usize,
    /// Filled up to whole rows of the kernels: eight bytes of each vector.
    filled: usize,
}

impl CodeShape {
    /// None for vectors of fewer than [`CODE_DIMENSIONS_MIN`] dimensions or more than [`CODE_DIMENSIONS_MAX`].
    pub fn new(dimensions: usize) -> Option<Self> {
        (CODE_DIMENSIONS_MIN..=CODE_DIMENSIONS_MAX)
            .contains(&dimensions)
            .then(|| Self {
                dimensions,
                filled: dimensions.next_multiple_of(64),
            })
    }

    /// Bytes of a group of sixteen codes: a head (ids, products with the centre, factors, errors; little-endian), and
    /// two planes, the upper bits first. A byte of a plane is of eight dimensions of one vector; sixteen bytes, one of
    /// each vector, lie together.
    pub fn group_bytes(&self) -> usize {
        HEAD_BYTES + 2 * self.plane_bytes()
    }

    /// A vector's direction around the centre, turned; and the product of that direction and the centre.
    fn around(&self, centre: &[f32], vector: &[f32]) -> (Vec<f32>, f32) {
        assert!(centre.len() == self.dimensions && vector.len() == self.dimensions);
        let norm = length(vector);
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        let mut turned = vec![0.0; self.filled];
        let mut product = 0.0;
        for ((turned, value), centre) in turned.iter_mut().zip(vector).zip(centre) {
            let value = value * scale;
            product += value * centre;
            *turned = value - centre;
        }
        rotate(&mut turned);
        (turned, product)
    }

    fn plane_bytes(&self) -> usize {
        self.filled / 8 * GROUP_VECTORS
    }
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests;
