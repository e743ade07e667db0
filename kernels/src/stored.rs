//! How keys and values are kept, and how they meet queries and weights.
//!
//! Floats are converted and multiplied as f32. Bytes meet bytes: the queries of a head are rounded to 8 bits with a
//! scale, and so are the weights of the tokens of each block, so that whole numbers are multiplied and summed.

// Sums stay in registers only where both indices are constants of an unrolled loop.
#![allow(clippy::needless_range_loop)]

use super::attention::BESIDE;
use super::lanes::{LANES, Lanes};
use super::pages::Plain;

/// Most values of a head.
pub const HEAD_SIZE_MAX: usize = 1024;
/// Bytes that one instruction multiplies in each lane.
const QUAD: usize = 4;
/// What makes a signed byte an unsigned one.
const OFFSET: i32 = 128;

/// A number of the cache.
///
/// Only finite ones are stored: a token that may not see another gives it the weight zero, which leaves
/// no trace of finite values alone.
pub(super) trait Stored: Plain {
    /// Values of a token's head that stand for its scale, of keys and of values; 0: there is none.
    const SCALE: usize = 0;
    /// Values that lie together in a lane: of a token's key, and of a value of neighbouring tokens.
    const TOGETHER: usize = 1;
    /// Registers that a sum of values takes.
    const SUMS: usize = 1;

    /// A query as it meets keys.
    type Query<'a>: Copy;

    /// Of no values.
    fn no_query<'a>() -> Self::Query<'a>;

    fn set_query<'a, L: Lanes>(lanes: L, values: &'a [f32], query: &mut Self::Query<'a>);

    /// The products of `N` queries, of `size` values each, with the keys of `W` blocks, whose own scales are left
    /// to the caller. Keys begin with their first vector; the one of group `g` of values that lie together is
    /// `g · BESIDE · TOGETHER` vectors behind.
    fn scores<L: Lanes, const N: usize, const W: usize>(
        lanes: L,
        keys: [&[[Self; LANES]]; W],
        queries: &[Self::Query<'_>; N],
        size: usize,
    ) -> [[L::F; W]; N];

    /// Turns the weights of the tokens of blocks into what meets their values.
    #[inline(always)]
    fn weigh<L: Lanes>(_lanes: L, _weights: &mut [[f32; LANES]]) {}

    /// Adds to each sum its vector of the values of each token of a block by the token's weight. `values` begin with
    /// the first vector of the first tokens; there are `width` vectors of a token.
    fn add_block<L: Lanes, const N: usize, const W: usize>(
        lanes: L,
        values: &[[Self; LANES]],
        width: usize,
        weights: [&[f32; LANES]; N],
        sums: [[L::F; W]; N],
    ) -> [[L::F; W]; N];

    /// Bounded to the largest number; what is not a number becomes the least one.
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES];

    /// As `store`, of a key.
    #[inline(always)]
    fn store_key<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        Self::store(lanes, values)
    }

    /// The scale of each token of a block.
    #[inline(always)]
    fn load_scales<L: Lanes>(lanes: L, _scales: &[Self]) -> L::F {
        lanes.splat(1.0)
    }

    /// Stores the scale of one token among those of a block, and returns its inverse.
    #[inline(always)]
    fn store_scale(_largest: f32, _scales: &mut [Self], _slot: usize) -> f32 {
        1.0
    }
}

/// A number that is converted to f32.
trait Float: Plain {
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F;
}

impl Float for u16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load_f16(values)
    }
}

impl Float for f32 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load(values)
    }
}

/// What floats have in common.
macro_rules! meet_as_floats {
    () => {
        type Query<'a> = &'a [f32];

        #[inline(always)]
        fn no_query<'a>() -> Self::Query<'a> {
            &[]
        }

        #[inline(always)]
        fn set_query<'a, L: Lanes>(_: L, values: &'a [f32], query: &mut Self::Query<'a>) {
            *query = values;
        }

        #[inline(always)]
        fn scores<L: Lanes, const N: usize, const W: usize>(
            lanes: L,
            keys: [&[[Self; LANES]]; W],
            queries: &[Self::Query<'_>; N],
            size: usize,
        ) -> [[L::F; W]; N] {
            float_scores(lanes, keys, queries, size)
        }

        #[inline(always)]
        fn add_block<L: Lanes, const N: usize, const W: usize>(
            lanes: L,
            values: &[[Self; LANES]],
            width: usize,
            weights: [&[f32; LANES]; N],
            sums: [[L::F; W]; N],
        ) -> [[L::F; W]; N] {
            add_floats(lanes, values, width, weights, sums)
        }
    };
}

/// The bits of an f16.
impl Stored for u16 {
    meet_as_floats!();

    #[inline(always)]
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        lanes.to_f16(bounded(lanes, values, 65_504.0))
    }
}

impl Stored for f32 {
    meet_as_floats!();

    #[inline(always)]
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        let mut stored = [0.0; LANES];
        lanes.store(bounded(lanes, values, f32::MAX), &mut stored);
        stored
    }
}

#[inline(always)]
fn float_scores<L: Lanes, T: Float, const N: usize, const W: usize>(
    lanes: L,
    keys: [&[[T; LANES]]; W],
    queries: &[&[f32]; N],
    size: usize,
) -> [[L::F; W]; N] {
    let mut queries = *queries;
    for row in 0..N {
        queries[row] = &queries[row][..size];
    }
    let mut keys = keys;
    for index in 0..W {
        keys[index] = &keys[index][..size * BESIDE - (BESIDE - 1)];
    }
    let mut sums = [[lanes.splat(0.0); W]; N];
    // A query value is broadcast once for all vectors: so few are held at a time.
    for value in 0..size {
        let mut vectors = [lanes.splat(0.0); W];
        for index in 0..W {
            vectors[index] = T::load(lanes, &keys[index][value * BESIDE]);
        }
        for row in 0..N {
            let query = lanes.splat(queries[row][value]);
            for index in 0..W {
                sums[row][index] = lanes.fma(vectors[index], query, sums[row][index]);
            }
        }
    }
    sums
}

#[inline(always)]
fn add_floats<L: Lanes, T: Float, const N: usize, const W: usize>(
    lanes: L,
    values: &[[T; LANES]],
    width: usize,
    weights: [&[f32; LANES]; N],
    mut sums: [[L::F; W]; N],
) -> [[L::F; W]; N] {
    let values = &values[..(LANES - 1) * width + W];
    for slot in 0..LANES {
        let values = &values[slot * width..][..W];
        let mut vectors = [lanes.splat(0.0); W];
        for index in 0..W {
            vectors[index] = T::load(lanes, &values[index]);
        }
        for row in 0..N {
            let weight = lanes.splat(weights[row][slot]);
            for index in 0..W {
                sums[row][index] = lanes.fma(vectors[index], weight, sums[row][index]);
            }
        }
    }
    sums
}

/// A query in 8 bits.
#[derive(Clone, Copy)]
pub(super) struct ByteQuery {
    /// Signed.
    quads: [[u8; QUAD]; HEAD_SIZE_MAX / QUAD],
    scale: f32,
    /// What the offset of the keys adds to each product, negated.
    minus_offset: i32,
}

/// A byte that stands for a whole number from -127 to 127: that of a key exceeds it by 128, since one factor of a
/// product must have no sign. The keys of a token's head share a scale, as do its values.
impl Stored for u8 {
    const SCALE: usize = size_of::<f32>();
    const TOGETHER: usize = QUAD;
    /// Whole numbers beside the sums of earlier blocks.
    const SUMS: usize = 2;

    type Query<'a> = ByteQuery;

    #[inline(always)]
    fn no_query<'a>() -> Self::Query<'a> {
        ByteQuery {
            quads: [[0; QUAD]; HEAD_SIZE_MAX / QUAD],
            scale: 0.0,
            minus_offset: 0,
        }
    }

    #[inline(always)]
    fn set_query<'a, L: Lanes>(lanes: L, values: &'a [f32], query: &mut Self::Query<'a>) {
        let (scale, inverse) = scale_of(largest_size(lanes, values));
        let mut total = 0.0;
        let quads = query.quads.as_chunks_mut::<{ LANES / QUAD }>().0;
        for (values, quads) in values.chunks(LANES).zip(quads) {
            let scaled = lanes.mul(lanes.load_part(values), lanes.splat(inverse));
            let rounded = lanes.round(scaled);
            total += lanes.sum(rounded);
            quads
                .as_flattened_mut()
                .copy_from_slice(&lanes.to_i8(rounded));
        }
        // What is not a number stays so; sums of small whole numbers are exact.
        (query.scale, query.minus_offset) = match total.is_finite() {
            true => (scale, (total * -(OFFSET as f32)) as i32),
            false => (f32::NAN, 0),
        };
    }

    #[inline(always)]
    fn scores<L: Lanes, const N: usize, const W: usize>(
        lanes: L,
        keys: [&[[Self; LANES]]; W],
        queries: &[ByteQuery; N],
        size: usize,
    ) -> [[L::F; W]; N] {
        let quads = size.div_ceil(QUAD);
        let mut lines: [&[[u8; QUAD * LANES]]; W] = [&[]; W];
        for index in 0..W {
            let (all, _) = keys[index].as_flattened().as_chunks();
            lines[index] = &all[..quads * BESIDE - (BESIDE - 1)];
        }
        let mut whole = [[lanes.splat_i32(0); W]; N];
        for row in 0..N {
            whole[row] = [lanes.splat_i32(queries[row].minus_offset); W];
        }
        for quad in 0..quads {
            let mut vectors = [lanes.load_bytes(&lines[0][quad * BESIDE]); W];
            for index in 1..W {
                vectors[index] = lanes.load_bytes(&lines[index][quad * BESIDE]);
            }
            for row in 0..N {
                let query = queries[row].quads[quad];
                for index in 0..W {
                    whole[row][index] = lanes.dot(whole[row][index], vectors[index], query);
                }
            }
        }
        let mut sums = [[lanes.splat(0.0); W]; N];
        for row in 0..N {
            let scale = lanes.splat(queries[row].scale);
            for index in 0..W {
                sums[row][index] = lanes.mul(lanes.to_f32(whole[row][index]), scale);
            }
        }
        sums
    }

    /// Four weights in the bytes of each of the first numbers of a block, then their scale.
    #[inline(always)]
    fn weigh<L: Lanes>(lanes: L, weights: &mut [[f32; LANES]]) {
        for weights in weights.chunks_mut(LANES) {
            let (mut scales, mut inverses) = ([0.0; LANES], [0.0; LANES]);
            for block in 0..weights.len() {
                scales[block] = lanes.largest(lanes.load(&weights[block]));
            }
            // All at once: a division takes long.
            for block in 0..LANES {
                (scales[block], inverses[block]) = scale_of(scales[block]);
            }
            for block in 0..weights.len() {
                let inverse = lanes.splat(inverses[block]);
                let bytes = lanes.to_i8(lanes.mul(lanes.load(&weights[block]), inverse));
                let (quads, _) = bytes.as_chunks();
                for quad in 0..LANES / QUAD {
                    weights[block][quad] = f32::from_bits(u32::from_le_bytes(quads[quad]));
                }
                weights[block][LANES / QUAD] = scales[block];
            }
        }
    }

    #[inline(always)]
    fn add_block<L: Lanes, const N: usize, const W: usize>(
        lanes: L,
        values: &[[Self; LANES]],
        width: usize,
        weights: [&[f32; LANES]; N],
        mut sums: [[L::F; W]; N],
    ) -> [[L::F; W]; N] {
        const QUADS: usize = LANES / QUAD;
        let (lines, _) = values.as_flattened().as_chunks::<{ QUAD * LANES }>();
        let lines = &lines[..(QUADS - 1) * width + W];
        let mut whole = [[lanes.splat_i32(0); W]; N];
        for quad in 0..QUADS {
            let lines = &lines[quad * width..][..W];
            let mut vectors = [lanes.load_bytes(&lines[0]); W];
            for index in 1..W {
                vectors[index] = lanes.load_bytes(&lines[index]);
            }
            for row in 0..N {
                let bytes = weights[row][quad].to_bits().to_le_bytes();
                for index in 0..W {
                    whole[row][index] = lanes.dot_signed(whole[row][index], vectors[index], bytes);
                }
            }
        }
        for row in 0..N {
            let scale = lanes.splat(weights[row][QUADS]);
            for index in 0..W {
                let part = lanes.to_f32(whole[row][index]);
                sums[row][index] = lanes.fma(part, scale, sums[row][index]);
            }
        }
        sums
    }

    #[inline(always)]
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        lanes.to_i8(bounded(lanes, values, 127.0))
    }

    #[inline(always)]
    fn store_key<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        let signed = Self::store(lanes, values);
        let mut stored = [0; LANES];
        for lane in 0..LANES {
            stored[lane] = signed[lane] ^ OFFSET as u8;
        }
        stored
    }

    #[inline(always)]
    fn load_scales<L: Lanes>(lanes: L, scales: &[Self]) -> L::F {
        // Of a known length, so that it is one load.
        let bytes = &scales.as_chunks().0[..LANES];
        let mut all = [0.0; LANES];
        for lane in 0..LANES {
            all[lane] = f32::from_ne_bytes(bytes[lane]);
        }
        lanes.load(&all)
    }

    #[inline(always)]
    fn store_scale(largest: f32, scales: &mut [Self], slot: usize) -> f32 {
        let (scale, inverse) = scale_of(largest);
        let (bytes, _) = scales.as_chunks_mut();
        bytes[slot] = scale.to_ne_bytes();
        inverse
    }
}

/// The scale of numbers of which `largest` becomes 127, and its inverse.
#[inline(always)]
fn scale_of(largest: f32) -> (f32, f32) {
    // Only finite numbers, as above.
    let scale = (largest / 127.0).min(f32::MAX);
    // Below the normal numbers the inverse would be infinite: such numbers count as zeros.
    match scale >= f32::MIN_POSITIVE {
        true => (scale, 1.0 / scale),
        false => (scale, 0.0),
    }
}

/// The largest size of values; what is not a number has none.
#[inline(always)]
pub(super) fn largest_size<L: Lanes>(lanes: L, values: &[f32]) -> f32 {
    let mut largest = lanes.splat(0.0);
    for values in values.chunks(LANES) {
        let values = lanes.load_part(values);
        let minus = lanes.mul(values, lanes.splat(-1.0));
        largest = lanes.max(lanes.max(values, minus), largest);
    }
    lanes.largest(largest)
}

#[inline(always)]
fn bounded<L: Lanes>(lanes: L, values: L::F, bound: f32) -> L::F {
    let (low, minus) = (lanes.splat(-bound), lanes.splat(-1.0));
    let above = lanes.max(values, low);
    // max(-a, -bound) negated is min(a, bound).
    lanes.mul(lanes.max(lanes.mul(above, minus), low), minus)
}
