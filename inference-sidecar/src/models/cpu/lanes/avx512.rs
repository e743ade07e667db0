//! AVX-512 with VNNI: Intel from Ice Lake, AMD from Zen 4.

#[allow(clippy::wildcard_imports, reason = "dozens of instructions")]
use std::arch::x86_64::*;

use super::{LANES, Lanes};

/// Proof that the processor has AVX-512 F, BW, VL and VNNI.
#[derive(Clone, Copy)]
pub(in crate::models) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
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

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

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
    fn to_i8(self, a: Self::F) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        run!(_mm_storeu_si128(
            bytes.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a))
        ));
        bytes
    }
}
