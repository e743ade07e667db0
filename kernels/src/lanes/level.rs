//! Which instructions the kernels use: the best that the processor has, found when the program runs.

use std::fmt;

use super::Lanes;
#[cfg(target_arch = "x86_64")]
use super::amx::Amx;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::portable::Portable;

/// A computation that is written for every level.
pub trait Kernel {
    type Output;

    /// Always inlined, so that it is compiled with the instructions of the level.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// A level that this processor has.
#[derive(Clone, Copy)]
pub enum Level {
    /// With tiles, for the products that are written for them.
    #[cfg(target_arch = "x86_64")]
    Amx(Avx512<true>, Amx),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512<true>),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Avx2<true>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2<false>),
    Portable,
}

impl Level {
    /// The fastest level of this processor.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let best = Self::detect_amx();
            let best = best.or_else(|| Avx512::detect().map(Self::Avx512Bf16));
            let best = best.or_else(|| Avx512::detect().map(Self::Avx512));
            let best = best.or_else(|| Avx2::detect().map(Self::AvxVnni));
            if let Some(level) = best.or_else(|| Avx2::detect().map(Self::Avx2)) {
                return level;
            }
        }
        Self::Portable
    }

    /// All levels that this processor has.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Self::Avx2));
            all.extend(Avx2::detect().map(Self::AvxVnni));
            all.extend(Avx512::detect().map(Self::Avx512));
            all.extend(Avx512::detect().map(Self::Avx512Bf16));
            all.extend(Self::detect_amx());
        }
        all
    }

    #[cfg(target_arch = "x86_64")]
    fn detect_amx() -> Option<Self> {
        Some(Self::Amx(Avx512::detect()?, Amx::detect()?))
    }

    /// The tile unit, where this level uses it.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn amx(self) -> Option<Amx> {
        match self {
            Self::Amx(_, amx) => Some(amx),
            _ => None,
        }
    }

    /// Runs a kernel with the instructions of this level.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: the token says that the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Amx(lanes, _) | Self::Avx512Bf16(lanes) => unsafe {
                run_avx512_bf16(lanes, kernel)
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(lanes) => unsafe { run_avx512(lanes, kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(lanes) => unsafe { run_avx_vnni(lanes, kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(lanes) => unsafe { run_avx2(lanes, kernel) },
            Self::Portable => kernel.run(Portable),
        }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(..) => "AVX-512 VNNI and BF16, AMX",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => "AVX-512 VNNI and BF16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            Self::Portable => "portable",
        })
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16")]
fn run_avx512_bf16<K: Kernel>(lanes: Avx512<true>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn run_avx512<K: Kernel>(lanes: Avx512<false>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn run_avx_vnni<K: Kernel>(lanes: Avx2<true>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<K: Kernel>(lanes: Avx2<false>, kernel: K) -> K::Output {
    kernel.run(lanes)
}
