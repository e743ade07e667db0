//! Activations × weights.
//!
//! - `quantized`: both in few bits
//! - `dense`: both in f32, or weights in 16 bits
//!
//! The order of sums depends on the matrix alone, so a row of results is the same bit for bit at every level
//! and whatever other rows are computed beside it.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

mod dense;
mod quantized;

use super::dense::DenseMatrix;
use super::lanes::{LANES, Lanes, Level};
use super::packed::PackedMatrix;
use super::parts::{Band, Bands, Joined, Parted};
use super::pool::Pool;
use super::prefetch::prefetch;
use super::quantized::QuantizedRows;

/// Pieces of work for each thread, so that one that is slow holds the others up only briefly.
const PIECES: usize = 6;
/// Bytes of weights of a piece at most, or one tile: at the end of the matrix of a vocabulary threads would wait long for
/// each other.
const PIECE: usize = 128 << 10;
/// How far ahead weights are asked for.
const AHEAD: usize = 8 << 10;
/// Bytes of activations that stay near a thread while all tiles of a piece meet them.
const CACHE: usize = 256 << 10;
/// Bytes of quantised weights that a few rows of activations meet before the next rows do: the results of a row lie
/// side by side, and those of other rows in other pages.
const NEAR: usize = 64 << 10;

/// Rows of activations × rows of a matrix, and where the results go.
pub struct Product<'a> {
    factors: Factors<'a>,
    /// One value for each output, or nothing.
    bias: &'a [f32],
    write: Write,
    results: Bands<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Factors<'a> {
    Quantized(&'a PackedMatrix, &'a QuantizedRows),
    Dense(&'a DenseMatrix, &'a [f32]),
}

/// What becomes of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Replace,
    Add,
}

impl Write {
    #[inline(always)]
    fn whole<L: Lanes>(self, lanes: L, sums: L::F, results: &mut [f32; LANES]) {
        let sums = match self {
            Self::Replace => sums,
            Self::Add => lanes.add(lanes.load(results), sums),
        };
        lanes.store(sums, results);
    }

    #[inline(always)]
    fn part<L: Lanes>(self, lanes: L, sums: L::F, results: &mut [f32]) {
        let mut all = [0.0; LANES];
        all[..results.len()].copy_from_slice(results);
        self.whole(lanes, sums, &mut all);
        results.copy_from_slice(&all[..results.len()]);
    }
}

impl<'a> Product<'a> {
    /// `results`: rows × outputs.
    pub fn quantized(
        matrix: &'a PackedMatrix,
        rows: &'a QuantizedRows,
        results: &'a mut [f32],
        write: Write,
    ) -> Self {
        assert_eq!(matrix.columns(), rows.columns());
        assert_eq!(results.len(), rows.rows() * matrix.rows());
        Self {
            factors: Factors::Quantized(matrix, rows),
            bias: &[],
            write,
            results: Bands::new(results, matrix.rows(), LANES),
        }
    }

    /// `rows`: rows × inputs; `results`: rows × outputs.
    pub fn dense(
        matrix: &'a DenseMatrix,
        rows: &'a [f32],
        results: &'a mut [f32],
        write: Write,
    ) -> Self {
        assert!(rows.len().is_multiple_of(matrix.columns()));
        assert_eq!(results.len(), rows.len() / matrix.columns() * matrix.rows());
        Self {
            factors: Factors::Dense(matrix, rows),
            bias: &[],
            write,
            results: Bands::new(results, matrix.rows(), LANES),
        }
    }

    /// Adds to each result the value of its output.
    pub fn with_bias(mut self, bias: &'a [f32]) -> Self {
        assert_eq!(bias.len(), self.results.width());
        self.bias = bias;
        self
    }

    fn tiles(&self) -> usize {
        match self.factors {
            Factors::Quantized(matrix, _) => matrix.tiles(),
            Factors::Dense(matrix, _) => matrix.count(),
        }
    }

    fn tile_bytes(&self) -> usize {
        match self.factors {
            Factors::Quantized(matrix, _) => matrix.tile_bytes(),
            Factors::Dense(matrix, _) => matrix.tile_bytes(),
        }
    }
}

/// Some tiles of a product.
pub(super) struct Piece<'a> {
    factors: Factors<'a>,
    results: Results<'a>,
}

/// Where the results of some tiles go.
pub(super) struct Results<'a> {
    /// Of all outputs of the matrix.
    bias: &'a [f32],
    write: Write,
    first_tile: usize,
    band: Band<'a>,
}

impl Results<'_> {
    fn tiles(&self) -> usize {
        self.band.columns().div_ceil(LANES)
    }

    /// The sums of some rows under tile `index` of the piece; a last tile may lack some outputs.
    #[inline(always)]
    fn store<L: Lanes, const T: usize>(
        &mut self,
        lanes: L,
        mut sums: [L::F; T],
        first: usize,
        index: usize,
    ) {
        if !self.bias.is_empty() {
            let bias = &self.bias[(self.first_tile + index) * LANES..];
            let bias = lanes.load_part(&bias[..bias.len().min(LANES)]);
            for row in 0..T {
                sums[row] = lanes.add(sums[row], bias);
            }
        }
        if (index + 1) * LANES <= self.band.columns() {
            let results = self.band.vectors::<T, 1>(first, index);
            for (sums, [results]) in sums.into_iter().zip(results) {
                self.write.whole(lanes, sums, results);
            }
            return;
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let results = &mut self.band.row(first + row)[index * LANES..];
            self.write.part(lanes, sums, results);
        }
    }
}

#[allow(unsafe_code)]
impl<'a> Parted for Product<'a> {
    type Part = Piece<'a>;

    fn count(&self) -> usize {
        self.results.count()
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        // SAFETY: passed on.
        let band = unsafe { self.results.part(index) };
        Piece {
            factors: self.factors,
            results: Results {
                bias: self.bias,
                write: self.write,
                first_tile: index * self.results.band() / LANES,
                band,
            },
        }
    }
}

/// Computes products that do not need each other's results, the first ones first.
pub fn multiply(pool: &Pool, level: Level, products: &mut [Product<'_>]) {
    let tiles: usize = products.iter().map(Product::tiles).sum();
    let piece = (tiles / (pool.threads() * PIECES)).max(1);
    for product in &mut *products {
        let most = (PIECE / product.tile_bytes()).max(1);
        product.results.set_band(piece.min(most) * LANES);
    }
    pool.for_each(
        Joined::new(products),
        |_, (_, _, Piece { factors, results })| match factors {
            Factors::Quantized(matrix, rows) => level.run(quantized::Piece {
                matrix,
                rows,
                results,
            }),
            Factors::Dense(matrix, rows) => level.run(dense::Piece {
                matrix,
                rows,
                results,
            }),
        },
    );
}

/// Asks for the weights that lie behind `first` bytes of a tile by the usual distance: beyond its end lies the
/// next tile.
#[inline(always)]
fn prefetch_ahead<T>(tile: &[T], first: usize, count: usize) {
    prefetch(tile, first + AHEAD, count);
}
