//! Sixteen values at a time: the operations that the kernels are written in, once for each level of
//! the processor.
//!
//! Every operation is exact or rounded once, so all levels give the same results bit for bit; only
//! their speed differs. A level's token exists only where the processor has its instructions.

// The instructions of a level may only run where they exist, which the compiler cannot know.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod level;
mod portable;

pub(in crate::models) use level::{Kernel, Level};

/// Values that are worked on at once.
pub(super) const LANES: usize = 16;

/// The operations of one level. `f16` values are passed as their bits.
pub(in crate::models) trait Lanes: Copy + Send + Sync {
    /// How many sums of sixteen values the registers hold beside what is added to them.
    const SUMS: usize;

    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixty-four bytes: four for each lane.
    type B: Copy;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, values: &[f32; LANES]) -> Self::F;
    fn load_f16(self, bits: &[u16; LANES]) -> Self::F;
    fn to_f16(self, values: Self::F) -> [u16; LANES];
    fn store(self, values: Self::F, to: &mut [f32; LANES]);

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger one; `b` where either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// 2 to the power of whole numbers from -126 to 127.
    fn exp2_whole(self, a: Self::F) -> Self::F;
    /// The lanes below `count`; `other` in the rest.
    fn keep_first(self, a: Self::F, count: usize, other: f32) -> Self::F;

    fn splat_i32(self, value: i32) -> Self::I;
    fn to_f32(self, a: Self::I) -> Self::F;
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::B;
    fn low_nibbles(self, bytes: Self::B) -> Self::B;
    fn high_nibbles(self, bytes: Self::B) -> Self::B;
    /// Adds to each lane the products of its four unsigned bytes with the four signed bytes of `x`.
    /// `weights` are below 16.
    fn dot_nibbles(self, sum: Self::I, weights: Self::B, x: [u8; 4]) -> Self::I;
    /// As `dot_nibbles`, for all unsigned bytes.
    fn dot_bytes(self, sum: Self::I, weights: Self::B, x: [u8; 4]) -> Self::I;
    /// Rounds to the nearest, ties to even, and keeps the low byte of each value in -128 to 127.
    fn to_i8(self, a: Self::F) -> [u8; LANES];

    /// The sum, halves onto halves.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        self.fold(a, |x, y| x + y)
    }

    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        self.fold(a, f32::max)
    }

    #[inline(always)]
    fn fold(self, a: Self::F, join: impl Fn(f32, f32) -> f32) -> f32 {
        let mut values = [0.0; LANES];
        self.store(a, &mut values);
        let mut count = LANES / 2;
        while count > 0 {
            for lane in 0..count {
                values[lane] = join(values[lane], values[lane + count]);
            }
            count /= 2;
        }
        values[0]
    }

    /// e to the power of `a` within 2e-7, relative; inputs are bounded to -87 to 88.
    ///
    /// Cody and Waite's reduction, then the Taylor polynomial to the sixth power over ±ln 2 / 2.
    #[inline(always)]
    fn exp(self, a: Self::F) -> Self::F {
        // What is not a number stays so: `max` keeps its second argument then.
        let bounded = self.max(self.splat(-87.0), a);
        // max(-88, -a) negated is min(88, a).
        let minus = self.splat(-1.0);
        let bounded = self.mul(self.max(self.splat(-88.0), self.mul(bounded, minus)), minus);
        let whole = self.round(self.mul(bounded, self.splat(std::f32::consts::LOG2_E)));
        let rest = self.fma(whole, self.splat(-0.693_359_4), bounded);
        let rest = self.fma(whole, self.splat(2.121_944_4e-4), rest);
        let mut power = self.splat(1.0 / 720.0);
        for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            power = self.fma(power, rest, self.splat(coefficient));
        }
        self.mul(power, self.exp2_whole(whole))
    }
}
