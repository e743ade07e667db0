//! AVX-512 with VNNI (Intel from Cascade Lake), and with its BF16 instructions where they exist (Intel from
//! Sapphire Rapids, AMD from Zen 4).

#[allow(clippy::wildcard_imports, reason = "dozens of instructions")]
use std::arch::x86_64::*;

use super::{LANES, Lanes, quarter};

/// Proof that the processor has AVX-512 F, BW, VL and VNNI; and BF16 if `BF16` is true.
#[derive(Clone, Copy)]
pub struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && (!BF16 || is_x86_feature_detected!("avx512bf16"));
        has_all.then_some(Self(()))
    }
}

/// Runs an instruction of this level.
macro_rules! run {
    ($expression:expr) => {
        // SAFETY: a token exists only after `detect` has found the instructions, and pointers come
        // from references to arrays of the size that is read or written.
        unsafe { $expression }
    };
}

impl<const BF16: bool> Lanes for Avx512<BF16> {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    type H = __m512i;

    const SUMS: usize = 24;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        run!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::F {
        // A load through a pointer is checked at every run of a build with debug assertions.
        run!(std::mem::transmute::<[f32; LANES], __m512>(*values))
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; LANES]) -> Self::F {
        run!(_mm512_cvtph_ps(_mm256_loadu_si256(bits.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; LANES]) -> Self::F {
        // A bf16 is the upper half of an f32.
        run!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(bits.as_ptr().cast()))
        )))
    }

    #[inline(always)]
    fn to_f16(self, values: Self::F) -> [u16; LANES] {
        let mut bits = [0; LANES];
        run!(_mm256_storeu_si256(
            bits.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(values)
        ));
        bits
    }

    #[inline(always)]
    fn store(self, values: Self::F, to: &mut [f32; LANES]) {
        *to = run!(std::mem::transmute::<__m512, [f32; LANES]>(values));
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        run!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        run!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        run!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        run!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        run!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        run!(_mm512_roundscale_ps::<
            { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
        >(a))
    }

    #[inline(always)]
    fn exp2_whole(self, a: Self::F) -> Self::F {
        run!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(
            _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127))
        )))
    }

    #[inline(always)]
    fn keep_first(self, a: Self::F, count: usize, other: f32) -> Self::F {
        let mask = ((1u32 << count.min(LANES)) - 1) as u16;
        run!(_mm512_mask_blend_ps(mask, _mm512_set1_ps(other), a))
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> Self::I {
        run!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, a: Self::I) -> Self::I {
        run!(_mm512_slli_epi32::<BITS>(a))
    }

    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        run!(_mm512_cvtepi32_ps(a))
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8; 64]) -> Self::B {
        run!(_mm512_loadu_si512(bytes.as_ptr().cast()))
    }

    #[inline(always)]
    fn low_nibbles(self, bytes: Self::B) -> Self::B {
        run!(_mm512_and_si512(bytes, _mm512_set1_epi8(15)))
    }

    #[inline(always)]
    fn high_nibbles(self, bytes: Self::B) -> Self::B {
        run!(_mm512_and_si512(
            _mm512_srli_epi16::<4>(bytes),
            _mm512_set1_epi8(15)
        ))
    }

    #[inline(always)]
    fn load_i8(self, bytes: &[u8; LANES]) -> Self::I {
        run!(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))
    }

    #[inline(always)]
    fn add_high(self, low: Self::B, high: Self::B, from: usize, mask: u8) -> Self::B {
        // Bits that come from a neighbour are not in the mask.
        run!({
            let shift = _mm_cvtsi32_si128((from as i32 - 4).abs());
            let bits = match from < 4 {
                true => _mm512_sll_epi16(high, shift),
                false => _mm512_srl_epi16(high, shift),
            };
            _mm512_or_si512(low, _mm512_and_si512(bits, _mm512_set1_epi8(mask as i8)))
        })
    }

    #[inline(always)]
    fn dot(self, sum: Self::I, weights: Self::B, x: [u8; 4]) -> Self::I {
        let x = i32::from_le_bytes(x);
        run!(_mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn dot_signed(self, sum: Self::I, values: Self::B, x: [u8; 4]) -> Self::I {
        let x = i32::from_le_bytes(x);
        run!(_mm512_dpbusd_epi32(sum, _mm512_set1_epi32(x), values))
    }

    #[inline(always)]
    fn load_halves(self, bits: &[u16; 2 * LANES]) -> Self::H {
        run!(std::mem::transmute::<[u16; 2 * LANES], __m512i>(*bits))
    }

    #[inline(always)]
    fn to_bf16(self, a: Self::F) -> [u16; LANES] {
        if BF16 {
            return run!(std::mem::transmute::<__m256bh, [u16; LANES]>(
                _mm512_cvtneps_pbh(a)
            ));
        }
        run!({
            let bits = _mm512_castps_si512(a);
            let is_odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_add_epi32(bits, half);
            // What is not a number stays so, also where its upper half alone would be an infinity.
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            let rounded = _mm512_mask_mov_epi32(rounded, is_nan, quiet);
            let upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            std::mem::transmute::<__m256i, [u16; LANES]>(upper)
        })
    }

    #[inline(always)]
    fn dot_halves(self, sum: Self::F, weights: Self::H, x: [u16; 2]) -> Self::F {
        let both = u32::from(x[0]) | u32::from(x[1]) << 16;
        run!({
            let x = _mm512_set1_epi32(both.cast_signed());
            if BF16 {
                let halves = std::mem::transmute::<__m512i, __m512bh>(weights);
                return _mm512_dpbf16_ps(sum, halves, std::mem::transmute::<__m512i, __m512bh>(x));
            }
            // A bf16 is the upper half of an f32.
            let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            let second = _mm512_castsi512_ps(_mm512_and_si512(weights, upper));
            let second_x = _mm512_castsi512_ps(_mm512_and_si512(x, upper));
            let first = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(weights));
            let first_x = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
            _mm512_fmadd_ps(first, first_x, _mm512_fmadd_ps(second, second_x, sum))
        })
    }

    #[inline(always)]
    fn to_i8(self, a: Self::F) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        run!(_mm_storeu_si128(
            bytes.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a))
        ));
        bytes
    }

    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let eight = run!(_mm256_add_ps(
            _mm512_castps512_ps256(a),
            _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a)))
        ));
        quarter::sum(run!(_mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight)
        )))
    }

    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        let eight = run!(_mm256_max_ps(
            _mm512_castps512_ps256(a),
            _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a)))
        ));
        quarter::largest(run!(_mm_max_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight)
        )))
    }
}
