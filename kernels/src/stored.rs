//! How keys and values are kept.

use super::lanes::{LANES, Lanes};
use super::pages::Plain;

/// A number of the cache.
///
/// Only finite ones are stored: a token that may not see another gives it the weight zero, which leaves
/// no trace of finite values alone.
pub(super) trait Stored: Plain {
    /// Values of a token's head that stand for its scale, of keys and of values; 0: there is none.
    const SCALE: usize = 0;

    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F;

    /// Bounded to the largest number; what is not a number becomes the least one.
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES];

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

/// The bits of an f16.
impl Stored for u16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load_f16(values)
    }

    #[inline(always)]
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        lanes.to_f16(bounded(lanes, values, 65_504.0))
    }
}

impl Stored for f32 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.load(values)
    }

    #[inline(always)]
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        let mut stored = [0.0; LANES];
        lanes.store(bounded(lanes, values, f32::MAX), &mut stored);
        stored
    }
}

/// The bits of a signed byte from -127 to 127; the keys of a token's head share a scale, as do its values.
impl Stored for u8 {
    const SCALE: usize = size_of::<f32>();

    #[inline(always)]
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F {
        lanes.to_f32(lanes.load_i8(values))
    }

    #[inline(always)]
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES] {
        lanes.to_i8(bounded(lanes, values, 127.0))
    }

    #[inline(always)]
    fn load_scales<L: Lanes>(lanes: L, scales: &[Self]) -> L::F {
        let (bytes, _) = scales.as_chunks();
        let mut all = [0.0; LANES];
        for (scale, bytes) in all.iter_mut().zip(bytes) {
            *scale = f32::from_ne_bytes(*bytes);
        }
        lanes.load(&all)
    }

    #[inline(always)]
    fn store_scale(largest: f32, scales: &mut [Self], slot: usize) -> f32 {
        // Only finite numbers, as above.
        let scale = (largest / 127.0).min(f32::MAX);
        let (bytes, _) = scales.as_chunks_mut();
        bytes[slot] = scale.to_ne_bytes();
        // Below the normal numbers the inverse would be infinite.
        match scale >= f32::MIN_POSITIVE {
            true => 1.0 / scale,
            false => 0.0,
        }
    }
}

#[inline(always)]
fn bounded<L: Lanes>(lanes: L, values: L::F, bound: f32) -> L::F {
    let (low, minus) = (lanes.splat(-bound), lanes.splat(-1.0));
    let above = lanes.max(values, low);
    // max(-a, -bound) negated is min(a, bound).
    lanes.mul(lanes.max(lanes.mul(above, minus), low), minus)
}
