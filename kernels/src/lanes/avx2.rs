//! AVX2, with the VNNI instructions for 256 bits where they exist (Intel from Alder Lake).

#[allow(clippy::wildcard_imports, reason = "dozens of instructions")]
use std::arch::x86_64::*;

use super::{LANES, Lanes, quarter};

/// Proof that the processor has AVX2, FMA and F16C; and AVX-VNNI if `VNNI` is true.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        has_all.then_some(Self(()))
    }
}

/// Runs an instruction of this level on both halves.
macro_rules! run {
    ($expression:expr) => {
        // SAFETY: a token exists only after `detect` has found the instructions, and pointers come
        // from references to arrays; offsets stay within them.
        unsafe { $expression }
    };
}

/// Rounds to bf16, which stays in the upper half of each value.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn rounded_to_bf16(a: __m256) -> __m256i {
    run!({
        let bits = _mm256_castps_si256(a);
        let is_odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(is_odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_add_epi32(bits, half);
        // What is not a number stays so, also where its upper half alone would be an infinity.
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
        _mm256_blendv_epi8(rounded, quiet, is_nan)
    })
}

#[inline(always)]
fn both<T: Copy, U>(a: [T; 2], change: impl Fn(T) -> U) -> [U; 2] {
    [change(a[0]), change(a[1])]
}

#[inline(always)]
fn join<T: Copy>(a: [T; 2], b: [T; 2], join: impl Fn(T, T) -> T) -> [T; 2] {
    [join(a[0], b[0]), join(a[1], b[1])]
}

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    type H = [__m256i; 2];

    const SUMS: usize = 6;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [run!(_mm256_set1_ps(value)); 2]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        // A load through a pointer is checked at every run of a build with debug assertions.
        run!(std::mem::transmute::<[f32; LANES], [__m256; 2]>(*values))
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; LANES]) -> Self::F {
        let from = bits.as_ptr();
        run!([
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
        ])
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; LANES]) -> Self::F {
        let from = bits.as_ptr();
        // A bf16 is the upper half of an f32.
        run!({
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        })
    }

    #[inline(always)]
    fn to_f16(self, values: Self::F) -> [u16; LANES] {
        let mut bits = [0u16; LANES];
        let to = bits.as_mut_ptr();
        run!({
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<NEAREST>(values[0]));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<NEAREST>(values[1]));
        });
        bits
    }

    #[inline(always)]
    fn store(self, values: Self::F, to: &mut [f32; LANES]) {
        *to = run!(std::mem::transmute::<[__m256; 2], [f32; LANES]>(values));
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        join(a, b, |a, b| run!(_mm256_add_ps(a, b)))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        join(a, b, |a, b| run!(_mm256_mul_ps(a, b)))
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        join(a, b, |a, b| run!(_mm256_div_ps(a, b)))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        join(a, b, |a, b| run!(_mm256_max_ps(a, b)))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        run!([
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1]),
        ])
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        both(a, |a| run!(_mm256_round_ps::<NEAREST>(a)))
    }

    #[inline(always)]
    fn exp2_whole(self, a: Self::F) -> Self::F {
        both(a, |a| {
            run!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(
                _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127))
            )))
        })
    }

    #[inline(always)]
    fn keep_first(self, a: Self::F, count: usize, other: f32) -> Self::F {
        let half = |a: __m256, first: i32| {
            run!({
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let bound = _mm256_set1_epi32(count as i32 - first);
                let mask = _mm256_castsi256_ps(_mm256_cmpgt_epi32(bound, lanes));
                _mm256_blendv_ps(_mm256_set1_ps(other), a, mask)
            })
        };
        [half(a[0], 0), half(a[1], 8)]
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I {
        [run!(_mm256_set1_epi32(value)); 2]
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: Self::I) -> Self::I {
        both(a, |a| {
            run!(_mm256_sll_epi32(a, _mm_cvtsi32_si128(BITS as i32)))
        })
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        both(a, |a| run!(_mm256_cvtepi32_ps(a)))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::B {
        let from = bytes.as_ptr();
        run!([
            _mm256_loadu_si256(from.cast()),
            _mm256_loadu_si256(from.add(32).cast()),
        ])
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::B) -> Self::B {
        both(bytes, |b| run!(_mm256_and_si256(b, _mm256_set1_epi8(15))))
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::B) -> Self::B {
        both(bytes, |b| {
            run!(_mm256_and_si256(
                _mm256_srli_epi16::<4>(b),
                _mm256_set1_epi8(15)
            ))
        })
    }

    #[inline(always)]
    fn load_i8(self, bytes: &[u8; LANES]) -> Self::I {
        let from = bytes.as_ptr();
        run!([
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())),
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast())),
        ])
    }

    #[inline(always)]
    fn add_high(self, low: Self::B, high: Self::B, from: usize, mask: u8) -> Self::B {
        // Bits that come from a neighbour are not in the mask.
        join(low, high, |low, high| {
            run!({
                let shift = _mm_cvtsi32_si128((from as i32 - 4).abs());
                let bits = match from < 4 {
                    true => _mm256_sll_epi16(high, shift),
                    false => _mm256_srl_epi16(high, shift),
                };
                _mm256_or_si256(low, _mm256_and_si256(bits, _mm256_set1_epi8(mask as i8)))
            })
        })
    }

    #[inline(always)]
    fn dot(self, sum: Self::I, weights: Self::B, x: [u8; 4]) -> Self::I {
        let x = run!(_mm256_set1_epi32(i32::from_le_bytes(x)));
        join(sum, weights, |sum, weights| {
            if VNNI {
                return run!(_mm256_dpbusd_avx_epi32(sum, weights, x));
            }
            // Even and odd bytes apart, because the sum of two products may not fit into 16 bits.
            run!({
                let even = _mm256_and_si256(weights, _mm256_set1_epi16(255));
                let odd = _mm256_srli_epi16::<8>(weights);
                let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                let odd_x = _mm256_srai_epi16::<8>(x);
                let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, even_x));
                _mm256_add_epi32(sum, _mm256_madd_epi16(odd, odd_x))
            })
        })
    }

    #[inline(always)]
    fn dot_signed(self, sum: Self::I, values: Self::B, x: [u8; 4]) -> Self::I {
        let x = run!(_mm256_set1_epi32(i32::from_le_bytes(x)));
        join(sum, values, |sum, values| {
            if VNNI {
                return run!(_mm256_dpbusd_avx_epi32(sum, x, values));
            }
            // As in `dot`.
            run!({
                let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(values));
                let odd = _mm256_srai_epi16::<8>(values);
                let even_x = _mm256_and_si256(x, _mm256_set1_epi16(255));
                let odd_x = _mm256_srli_epi16::<8>(x);
                let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, even_x));
                _mm256_add_epi32(sum, _mm256_madd_epi16(odd, odd_x))
            })
        })
    }

    #[inline(always)]
    fn dot_small(self, sum: Self::I, weights: &[Self::B], x: &[[u8; 4]], sets: usize) -> Self::I {
        if VNNI {
            return self.dot_groups(sum, weights, x);
        }
        let mut sum = sum;
        let mut first = 0;
        while first < weights.len() {
            // The products of a set are summed in 16 bits before they are widened.
            let mut pairs = [run!(_mm256_setzero_si256()); 2];
            for group in first..first + sets {
                let x = run!(_mm256_set1_epi32(i32::from_le_bytes(x[group])));
                for half in 0..2 {
                    let products = run!(_mm256_maddubs_epi16(weights[group][half], x));
                    pairs[half] = run!(_mm256_add_epi16(pairs[half], products));
                }
            }
            for half in 0..2 {
                let ones = run!(_mm256_set1_epi16(1));
                let whole = run!(_mm256_madd_epi16(pairs[half], ones));
                sum[half] = run!(_mm256_add_epi32(sum[half], whole));
            }
            first += sets;
        }
        sum
    }

    #[inline(always)]
    fn load_halves(self, bits: &[u16; 2 * LANES]) -> Self::H {
        run!(std::mem::transmute::<[u16; 2 * LANES], [__m256i; 2]>(*bits))
    }

    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        let mut bits = [0; LANES];
        run!({
            // Kept in the upper halves, moved down and packed, which works on 128 bits apart.
            let low = _mm256_srli_epi32::<16>(rounded_to_bf16(a[0]));
            let high = _mm256_srli_epi32::<16>(rounded_to_bf16(a[1]));
            let packed = _mm256_packus_epi32(low, high);
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(bits.as_mut_ptr().cast(), ordered);
        });
        bits
    }

    #[inline(always)]
    fn dot_halves(self, sum: Self::F, weights: Self::H, x: [u16; 2]) -> Self::F {
        // A bf16 is the upper half of an f32.
        let upper = run!(_mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        let both = u32::from(x[0]) | u32::from(x[1]) << 16;
        let x = run!(_mm256_set1_epi32(both.cast_signed()));
        let first_x = run!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)));
        let second_x = run!(_mm256_castsi256_ps(_mm256_and_si256(x, upper)));
        let mut sum = sum;
        for half in 0..2 {
            sum[half] = run!({
                let second = _mm256_castsi256_ps(_mm256_and_si256(weights[half], upper));
                let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(weights[half]));
                _mm256_fmadd_ps(first, first_x, _mm256_fmadd_ps(second, second_x, sum[half]))
            });
        }
        sum
    }

    #[inline(always)]
    fn to_i8(self, a: Self::F) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        run!({
            // Packing works on 128 bits apart, hence the order of the quarters.
            let pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            let low = _mm256_castsi256_si128(pairs);
            let high = _mm256_extracti128_si256::<1>(pairs);
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_packs_epi16(low, high));
        });
        bytes
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let eight = run!(_mm256_add_ps(a[0], a[1]));
        quarter::sum(run!(_mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight)
        )))
    }

    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        let eight = run!(_mm256_max_ps(a[0], a[1]));
        quarter::largest(run!(_mm_max_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight)
        )))
    }
}
