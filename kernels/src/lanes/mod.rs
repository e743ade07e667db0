//! Sixteen values at a time: the operations that the kernels are written in, once for each level of
//! the processor.
//!
//! Every operation is exact or rounded once (`dot_halves`: twice, in a fixed order), so all levels give the same
//! results bit for bit, but for bf16 results below the normal numbers; only their speed differs. A level's token exists only where the processor has its instructions.

// The instructions of a level may only run where they exist, which the compiler cannot know.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod level;
mod portable;
#[cfg(target_arch = "x86_64")]
mod quarter;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::{Amx, BLOCK_ROWS, BlockSums, TILE_PAIRS};
pub use level::{Kernel, Level};

/// Values that are worked on at once.
pub(super) const LANES: usize = 16;

/// The length of `count` values when they are filled up to whole vectors.
pub fn filled(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

/// Two bf16 of each lane, in a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Line(pub [u16; 2 * LANES]);

/// The operations of one level. `f16` and `bf16` values are passed as their bits.
pub trait Lanes: Copy + Send + Sync {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixty-four bytes: four for each lane.
    type B: Copy;
    /// Thirty-two bf16: two for each lane.
    type H: Copy;

    /// Sums of sixteen f32 for which there are registers beside what is added to them; 1 keeps the code
    /// of a level small.
    const SUMS: usize;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, values: &[f32; LANES]) -> Self::F;
    fn load_f16(self, bits: &[u16; LANES]) -> Self::F;
    fn load_bf16(self, bits: &[u16; LANES]) -> Self::F;
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
    /// Times 2 to the power of `BITS`.
    fn shift_left<const BITS: u32>(self, a: Self::I) -> Self::I;
    fn to_f32(self, a: Self::I) -> Self::F;
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::B;
    fn low_nibbles(self, bytes: Self::B) -> Self::B;
    fn high_nibbles(self, bytes: Self::B) -> Self::B;
    /// Signed bytes.
    fn load_i8(self, bytes: &[u8; LANES]) -> Self::I;
    /// Adds to each of `low` the bits of `high` from bit `from` on, behind its four, as far as `mask`
    /// has them.
    fn add_high(self, low: Self::B, high: Self::B, from: usize, mask: u8) -> Self::B;
    /// Adds to each lane the products of its four unsigned bytes with the four signed bytes of `x`.
    fn dot(self, sum: Self::I, weights: Self::B, x: [u8; 4]) -> Self::I;
    /// Adds to each lane the products of its four signed bytes with the four unsigned bytes of `x`.
    fn dot_signed(self, sum: Self::I, values: Self::B, x: [u8; 4]) -> Self::I;
    /// As `dot`, group by group.
    #[inline(always)]
    fn dot_groups(self, sum: Self::I, weights: &[Self::B], x: &[[u8; 4]]) -> Self::I {
        let mut sum = sum;
        for group in 0..weights.len() {
            sum = self.dot(sum, weights[group], x[group]);
        }
        sum
    }
    /// As `dot_groups`, for weights of at most six bits and `x` without -128. `sets` of groups
    /// of which the products of two bytes fit 16 bits together: 8 for four bits, 4 for five, 2 for six.
    #[inline(always)]
    fn dot_small(self, sum: Self::I, weights: &[Self::B], x: &[[u8; 4]], _sets: usize) -> Self::I {
        self.dot_groups(sum, weights, x)
    }
    fn load_halves(self, bits: &[u16; 2 * LANES]) -> Self::H;
    /// To the nearest, ties to even; numbers below the normal ones may become zero.
    fn to_bf16(self, a: Self::F) -> [u16; LANES];
    /// Adds to each lane the product of its second value with that of `x`, then that of the first ones: two
    /// roundings, since a product of two bf16 is exact. Results below the normal numbers may become zero.
    fn dot_halves(self, sum: Self::F, weights: Self::H, x: [u16; 2]) -> Self::F;
    /// Rounds to the nearest, ties to even, and keeps the low byte of each value in -128 to 127.
    fn to_i8(self, a: Self::F) -> [u8; LANES];

    /// At most sixteen values, filled up with zeros.
    #[inline(always)]
    fn load_part(self, values: &[f32]) -> Self::F {
        if let Some(values) = values.first_chunk() {
            return self.load(values);
        }
        let mut all = [0.0; LANES];
        all[..values.len()].copy_from_slice(values);
        self.load(&all)
    }

    /// The value of the first lane.
    #[inline(always)]
    fn first(self, a: Self::F) -> f32 {
        let mut values = [0.0; LANES];
        self.store(a, &mut values);
        values[0]
    }

    /// The sum, halves onto halves: lane 0 and lane 8, and so on.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        self.fold(a, |x, y| x + y)
    }

    /// As `max` of halves and halves.
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        self.fold(a, |x, y| if x > y { x } else { y })
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
