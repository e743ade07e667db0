//! The number formats of weights, as GGML and safetensors lay them out in memory.
//!
//! Source: ggml's `ggml-common.h` and `ggml-quants.c` (`dequantize_row_*`). A block holds 32 weights,
//! one of a K format 256.

use half::{bf16, f16};

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The format with the number that GGUF gives it (`ggml_type`).
    pub fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Weights of one block.
    pub fn block_weights(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `columns` weights; None when that is no whole number of blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let is_whole = columns > 0 && columns.is_multiple_of(self.block_weights());
        let blocks = is_whole.then_some(columns / self.block_weights())?;
        blocks.checked_mul(self.block_bytes())
    }

    /// Bytes of a matrix; None for sizes that do not fit the format, and without rows.
    pub fn matrix_bytes(self, rows: usize, columns: usize) -> Option<usize> {
        let bytes = self.row_bytes(columns)?.checked_mul(rows)?;
        (rows > 0).then_some(bytes)
    }

    /// Writes the weights in `bytes` to `values`; both hold the same whole number of blocks.
    #[inline(always)]
    pub fn unpack(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(
            bytes.len() / self.block_bytes(),
            values.len() / self.block_weights()
        );
        match self {
            Self::F32 => each(bytes, values, |b: &[u8; 4], v: &mut [f32; 1]| {
                v[0] = f32::from_le_bytes(*b);
            }),
            Self::F16 => each(bytes, values, |b: &[u8; 2], v: &mut [f32; 1]| {
                v[0] = half_at(b, 0)
            }),
            Self::Bf16 => each(bytes, values, |b: &[u8; 2], v: &mut [f32; 1]| {
                v[0] = bf16::from_le_bytes(*b).to_f32();
            }),
            Self::Q4_0 => each(bytes, values, unpack_q4_0),
            Self::Q4_1 => each(bytes, values, unpack_q4_1),
            Self::Q5_0 => each(bytes, values, unpack_q5_0),
            Self::Q5_1 => each(bytes, values, unpack_q5_1),
            Self::Q8_0 => each(bytes, values, unpack_q8_0),
            Self::Q4K => each(bytes, values, unpack_q4_k),
            Self::Q5K => each(bytes, values, unpack_q5_k),
            Self::Q6K => each(bytes, values, unpack_q6_k),
        }
    }
}

#[inline(always)]
fn each<const B: usize, const W: usize>(
    bytes: &[u8],
    values: &mut [f32],
    unpack: impl Fn(&[u8; B], &mut [f32; W]),
) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (outputs, _) = values.as_chunks_mut::<W>();
    for (block, output) in blocks.iter().zip(outputs) {
        unpack(block, output);
    }
}

#[inline(always)]
fn half_at(bytes: &[u8], position: usize) -> f32 {
    f16::from_le_bytes([bytes[position], bytes[position + 1]]).to_f32()
}

/// d, 16 × two 4-bit values; weight = d (q - 8). Low halves come first.
#[inline(always)]
fn unpack_q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..16 {
        let q = block[2 + i];
        values[i] = d * (i32::from(q & 15) - 8) as f32;
        values[i + 16] = d * (i32::from(q >> 4) - 8) as f32;
    }
}

/// d, m, 16 × two 4-bit values; weight = d q + m.
#[inline(always)]
fn unpack_q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for i in 0..16 {
        let q = block[4 + i];
        values[i] = d * f32::from(q & 15) + m;
        values[i + 16] = d * f32::from(q >> 4) + m;
    }
}

/// d, 32 fifth bits, 16 × two 4-bit values; weight = d (q - 16).
#[inline(always)]
fn unpack_q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for i in 0..16 {
        let q = u32::from(block[6 + i]);
        let low_half = (q & 15) | (high >> i & 1) << 4;
        let high_half = (q >> 4) | (high >> (i + 16) & 1) << 4;
        values[i] = d * (low_half as i32 - 16) as f32;
        values[i + 16] = d * (high_half as i32 - 16) as f32;
    }
}

/// d, m, 32 fifth bits, 16 × two 4-bit values; weight = d q + m.
#[inline(always)]
fn unpack_q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for i in 0..16 {
        let q = u32::from(block[8 + i]);
        values[i] = d * ((q & 15) | (high >> i & 1) << 4) as f32 + m;
        values[i + 16] = d * ((q >> 4) | (high >> (i + 16) & 1) << 4) as f32 + m;
    }
}

/// d, 32 signed bytes; weight = d q.
#[inline(always)]
fn unpack_q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..32 {
        values[i] = d * f32::from(block[2 + i].cast_signed());
    }
}

/// Adds the blocks of a row, rounded: the opposite of `unpack_q8_0`.
pub(crate) fn quantize_q8_0(values: &[f32], bytes: &mut Vec<u8>) {
    for block in values.chunks_exact(32) {
        let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let is_finite = block.iter().all(|x| x.is_finite());
        // What is not finite stays so.
        let d = if is_finite { largest / 127.0 } else { f32::NAN };
        let d = f16::from_f32(d);
        bytes.extend(d.to_le_bytes());
        let scale = d.to_f32();
        // A block of zeros, or of numbers below what its scale can tell from zero.
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        // The conversion saturates.
        let quant = |x: &f32| ((x * inverse).round_ties_even() as i8).to_le_bytes()[0];
        bytes.extend(block.iter().map(quant));
    }
}

/// The 6-bit scale and minimum of sub-block `i` of eight, packed in 12 bytes.
#[inline(always)]
pub(crate) fn scale_and_minimum(packed: &[u8], i: usize) -> (u8, u8) {
    if i < 4 {
        return (packed[i] & 63, packed[i + 4] & 63);
    }
    (
        (packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4,
        (packed[i + 4] >> 4) | (packed[i] >> 6) << 4,
    )
}

#[inline(always)]
fn scale_and_min(packed: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = scale_and_minimum(packed, i);
    (f32::from(scale), f32::from(min))
}

/// d, dmin, eight scales and minima, 256 4-bit values; weight = d scale q - dmin min.
#[inline(always)]
fn unpack_q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (packed, quants) = (&block[4..16], &block[16..144]);
    for pair in 0..4 {
        let (scale, min) = scale_and_min(packed, 2 * pair);
        let (next_scale, next_min) = scale_and_min(packed, 2 * pair + 1);
        for i in 0..32 {
            let q = quants[32 * pair + i];
            values[64 * pair + i] = d * scale * f32::from(q & 15) - dmin * min;
            values[64 * pair + 32 + i] = d * next_scale * f32::from(q >> 4) - dmin * next_min;
        }
    }
}

/// As Q4_K, with 256 fifth bits between scales and values.
#[inline(always)]
fn unpack_q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (packed, high, quants) = (&block[4..16], &block[16..48], &block[48..176]);
    for pair in 0..4 {
        let (scale, min) = scale_and_min(packed, 2 * pair);
        let (next_scale, next_min) = scale_and_min(packed, 2 * pair + 1);
        for i in 0..32 {
            let (q, h) = (quants[32 * pair + i], high[i] >> (2 * pair));
            let low_half = (q & 15) | (h & 1) << 4;
            let high_half = (q >> 4) | (h >> 1 & 1) << 4;
            values[64 * pair + i] = d * scale * f32::from(low_half) - dmin * min;
            values[64 * pair + 32 + i] = d * next_scale * f32::from(high_half) - dmin * next_min;
        }
    }
}

/// 128 low halves, 64 × four high bit pairs, 16 signed scales, d; weight = d scale (q - 32).
#[inline(always)]
fn unpack_q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let (low, high) = (&block[64 * half..], &block[128 + 32 * half..]);
        let scales = &block[192 + 8 * half..];
        let values = &mut values[128 * half..][..128];
        for i in 0..32 {
            let quants = [
                (low[i] & 15) | (high[i] & 3) << 4,
                (low[i + 32] & 15) | (high[i] >> 2 & 3) << 4,
                (low[i] >> 4) | (high[i] >> 4 & 3) << 4,
                (low[i + 32] >> 4) | (high[i] >> 6) << 4,
            ];
            for (quarter, q) in quants.into_iter().enumerate() {
                let scale = f32::from(scales[i / 16 + 2 * quarter].cast_signed());
                values[i + 32 * quarter] = d * scale * (i32::from(q) - 32) as f32;
            }
        }
    }
}
