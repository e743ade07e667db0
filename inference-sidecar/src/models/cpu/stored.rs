//! How keys and values are kept.

use super::lanes::{LANES, Lanes};

/// A number of the cache.
///
/// Only finite ones are stored: a token that may not see another gives it the weight zero, which leaves
/// no trace of finite values alone.
pub(in crate::models) trait Stored: Copy + Default + Send + Sync {
    fn load<L: Lanes>(lanes: L, values: &[Self; LANES]) -> L::F;

    /// Bounded to the largest number; what is not a number becomes the least one.
    fn store<L: Lanes>(lanes: L, values: L::F) -> [Self; LANES];
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

#[inline(always)]
fn bounded<L: Lanes>(lanes: L, values: L::F, bound: f32) -> L::F {
    let (low, minus) = (lanes.splat(-bound), lanes.splat(-1.0));
    let above = lanes.max(values, low);
    // max(-a, -bound) negated is min(a, bound).
    lanes.mul(lanes.max(lanes.mul(above, minus), low), minus)
}
