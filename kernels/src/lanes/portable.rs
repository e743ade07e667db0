//! The definition of each operation, in plain Rust: what every other level must equal.

use half::{bf16, f16};

use super::{LANES, Lanes};

/// Runs on every processor.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn each<T: Copy, U>(a: [T; LANES], change: impl FnMut(T) -> U) -> [U; LANES] {
    a.map(change)
}

#[inline(always)]
fn both(a: [f32; LANES], b: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|lane| join(a[lane], b[lane]))
}

impl Lanes for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];
    type H = [u16; 2 * LANES];

    const SUMS: usize = 1;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        *values
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; LANES]) -> Self::F {
        each(*bits, |bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; LANES]) -> Self::F {
        each(*bits, |bits| bf16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn to_f16(self, values: Self::F) -> [u16; LANES] {
        each(values, |value| f16::from_f32(value).to_bits())
    }

    #[inline(always)]
    fn store(self, values: Self::F, to: &mut [f32; LANES]) {
        *to = values;
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        each(a, f32::round_ties_even)
    }

    #[inline(always)]
    fn exp2_whole(self, a: Self::F) -> Self::F {
        each(a, |a| {
            f32::from_bits(((a as i32 + 127) << 23).cast_unsigned())
        })
    }

    #[inline(always)]
    fn keep_first(self, a: Self::F, count: usize, other: f32) -> Self::F {
        std::array::from_fn(|lane| if lane < count { a[lane] } else { other })
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I {
        [value; LANES]
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: Self::I) -> Self::I {
        each(a, |a| a << BITS)
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        each(a, |a| a as f32)
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::B {
        *bytes
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::B) -> Self::B {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::B) -> Self::B {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn load_i8(self, bytes: &[u8; LANES]) -> Self::I {
        bytes.map(|byte| i32::from(byte.cast_signed()))
    }

    #[inline(always)]
    fn add_high(self, low: Self::B, high: Self::B, from: usize, mask: u8) -> Self::B {
        let bits = |byte: u8| ((u32::from(byte) << 4) >> from) as u8 & mask;
        std::array::from_fn(|at| low[at] | bits(high[at]))
    }

    #[inline(always)]
    fn dot(self, sum: Self::I, weights: Self::B, x: [u8; 4]) -> Self::I {
        std::array::from_fn(|lane| {
            let products =
                (0..4).map(|i| i32::from(weights[4 * lane + i]) * i32::from(x[i].cast_signed()));
            sum[lane] + products.sum::<i32>()
        })
    }

    #[inline(always)]
    fn dot_signed(self, sum: Self::I, values: Self::B, x: [u8; 4]) -> Self::I {
        std::array::from_fn(|lane| {
            let products =
                (0..4).map(|i| i32::from(values[4 * lane + i].cast_signed()) * i32::from(x[i]));
            sum[lane] + products.sum::<i32>()
        })
    }

    #[inline(always)]
    fn load_halves(self, bits: &[u16; 2 * LANES]) -> Self::H {
        *bits
    }

    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        each(a, |a| bf16::from_f32(a).to_bits())
    }

    #[inline(always)]
    fn dot_halves(self, sum: Self::F, weights: Self::H, x: [u16; 2]) -> Self::F {
        let value = |bits: u16| bf16::from_bits(bits).to_f32();
        std::array::from_fn(|lane| {
            let second = value(weights[2 * lane + 1]).mul_add(value(x[1]), sum[lane]);
            value(weights[2 * lane]).mul_add(value(x[0]), second)
        })
    }

    #[inline(always)]
    fn to_i8(self, a: Self::F) -> [u8; LANES] {
        each(a, |a| (a.round_ties_even() as i32).to_le_bytes()[0])
    }
}
