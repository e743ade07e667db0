//! A query, and what its cosines with the vectors of a group are at most.

// Instructions of AVX2, where the processor has them.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
#[allow(clippy::wildcard_imports, reason = "two dozen instructions")]
use std::arch::x86_64::*;

use super::{CodeShape, GROUP_VECTORS, HEAD_BYTES, length};
use crate::lanes::Level;
use crate::prefetch::prefetch_at;

/// How many standard deviations an estimate may be too small (RaBitQ's ε₀): one bound in nine does not hold. Whoever wants
/// the nearest ten looks for a hundred, so that those ten are far from the border; at 1.9, where one in forty does not,
/// twice as many vectors have to be compared.
const DEVIATIONS: f32 = 1.2;
/// Entries of a table are numbers up to this, so that two fit a byte.
const ENTRY_MAX: f32 = 127.0;
/// Of four dimensions: a sum for each choice of them.
const TABLE: usize = 16;

/// A query, ready to meet codes.
pub struct CodeQuery {
    level: Level,
    shape: CodeShape,
    /// For each two bytes of a code: the tables of their lower halves, then those of their upper halves.
    tables: Vec<u8>,
    /// The unit of the tables' entries.
    unit: f32,
    /// What is added to the sums of entries.
    offset: f32,
    /// What all cosines have in common.
    base: f32,
    /// The length of the query around the centre, times what it may be wrong.
    slack: f32,
}

impl CodeQuery {
    /// Of a query only its direction counts; `centre`: that of the codes.
    pub fn new(level: Level, shape: CodeShape, centre: &[f32], query: &[f32]) -> Self {
        let (turned, with_centre) = shape.around(centre, query);
        let square: f32 = centre.iter().map(|value| value * value).sum();
        let (fours, _) = turned.as_chunks::<4>();
        let least = |four: &[f32; 4]| four.iter().map(|value| value.min(0.0)).sum::<f32>();
        let range = |four: &[f32; 4]| four.iter().map(|value| value.abs()).sum::<f32>();
        let widest = fours.iter().map(range).fold(f32::MIN_POSITIVE, f32::max);
        let unit = widest / ENTRY_MAX;
        let mut tables = vec![0; fours.len() * TABLE];
        for (number, four) in fours.iter().enumerate() {
            let start = table_start(number);
            for (choice, entry) in tables[start..start + TABLE].iter_mut().enumerate() {
                let chosen = (0..4).filter(|bit| choice >> bit & 1 == 1);
                let sum: f32 = chosen.map(|bit| four[bit]).sum();
                *entry = ((sum - least(four)) / unit).round() as u8;
            }
        }
        let least: f32 = fours.iter().map(least).sum();
        let sum: f32 = turned.iter().sum();
        Self {
            level,
            tables,
            unit,
            // Of both planes, the upper of which counts twice; and levels are around 1.5.
            offset: 3.0 * least - 1.5 * sum,
            base: with_centre - square,
            slack: DEVIATIONS * length(&turned),
            shape,
        }
    }

    /// Shows the id of each vector of a group whose cosine may be greater than `threshold`, and what it is at most, almost
    /// surely. Places that are free are never shown. False when the bytes are no group of this shape.
    #[inline]
    pub fn exceeding(&self, group: &[u8], threshold: f32, mut show: impl FnMut(i64, f32)) -> bool {
        if group.len() != self.shape.group_bytes() {
            return false;
        }
        let (bounds, mut exceeding) = self.bounds(group, threshold);
        while exceeding != 0 {
            let place = exceeding.trailing_zeros() as usize;
            exceeding &= exceeding - 1;
            let id = group[8 * place..].first_chunk().copied();
            show(i64::from_le_bytes(id.unwrap_or_default()), bounds[place]);
        }
        true
    }

    /// Bytes of a group of codes that it meets.
    pub fn group_bytes(&self) -> usize {
        self.shape.group_bytes()
    }

    /// Asks for the memory of a group that is soon to be met; nothing is read, wherever the address points.
    #[inline]
    pub fn expect(&self, group: *const u8) {
        prefetch_at(group, self.shape.group_bytes());
    }

    /// What each cosine is at most, and a bit for each that exceeds the threshold.
    #[inline]
    fn bounds(&self, group: &[u8], threshold: f32) -> ([f32; GROUP_VECTORS], u32) {
        #[cfg(target_arch = "x86_64")]
        if !matches!(self.level, Level::Portable) {
            // SAFETY: all levels but the portable one are of processors with AVX2.
            return unsafe { self.bounds_avx2(group, threshold) };
        }
        let (head, planes) = group.split_at(HEAD_BYTES);
        let (upper, lower) = planes.split_at(self.shape.plane_bytes());
        let (upper, lower) = (sums(upper, &self.tables), sums(lower, &self.tables));
        let (numbers, _) = head[8 * GROUP_VECTORS..].as_chunks::<4>();
        let mut bounds = [0.0; GROUP_VECTORS];
        let mut exceeding = 0;
        for (place, bound) in bounds.iter_mut().enumerate() {
            let number =
                |column: usize| f32::from_le_bytes(numbers[column * GROUP_VECTORS + place]);
            let entries = 2 * i32::from(upper[place]) + i32::from(lower[place]);
            let product = self.unit * entries as f32 + self.offset;
            *bound = self.base + number(0) + number(1) * product + number(2) * self.slack;
            exceeding |= u32::from(*bound > threshold) << place;
        }
        (bounds, exceeding)
    }

    /// As `bounds`, with the same roundings.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn bounds_avx2(&self, group: &[u8], threshold: f32) -> ([f32; GROUP_VECTORS], u32) {
        let (head, planes) = group.split_at(HEAD_BYTES);
        let (upper, lower) = planes.split_at(self.shape.plane_bytes());
        let [upper, lower] = sums_avx2([upper, lower], &self.tables);
        let (numbers, _) = head[8 * GROUP_VECTORS..].as_chunks::<32>();
        let mut bounds = [0.0; GROUP_VECTORS];
        let mut exceeding = 0;
        let (halves, _) = bounds.as_chunks_mut::<8>();
        for (half, bounds) in halves.iter_mut().enumerate() {
            let number = |column: usize| {
                // SAFETY: thirty-two bytes, at any address.
                unsafe { _mm256_loadu_ps(numbers[2 * column + half].as_ptr().cast()) }
            };
            let widen = |sums: [__m128i; 2]| _mm256_cvtepu16_epi32(sums[half]);
            let (upper, lower) = (widen(upper), widen(lower));
            let entries = _mm256_add_epi32(_mm256_add_epi32(upper, upper), lower);
            let entries = _mm256_cvtepi32_ps(entries);
            let product = _mm256_mul_ps(_mm256_set1_ps(self.unit), entries);
            let product = _mm256_add_ps(product, _mm256_set1_ps(self.offset));
            let mut bound = _mm256_add_ps(_mm256_set1_ps(self.base), number(0));
            bound = _mm256_add_ps(bound, _mm256_mul_ps(number(1), product));
            let error = _mm256_mul_ps(number(2), _mm256_set1_ps(self.slack));
            bound = _mm256_add_ps(bound, error);
            let exceeds = _mm256_cmp_ps::<_CMP_GT_OQ>(bound, _mm256_set1_ps(threshold));
            exceeding |= _mm256_movemask_ps(exceeds).cast_unsigned() << (8 * half);
            // SAFETY: eight values, at any address.
            unsafe { _mm256_storeu_ps(bounds.as_mut_ptr(), bound) };
        }
        (bounds, exceeding)
    }
}

/// Where the table of the dimensions 4 · `number` and on begins.
fn table_start(number: usize) -> usize {
    let (byte, half) = (number / 2, number % 2);
    (byte / 2 * 4 + half * 2 + byte % 2) * TABLE
}

fn sums(plane: &[u8], tables: &[u8]) -> [u16; GROUP_VECTORS] {
    let mut sums = [0; GROUP_VECTORS];
    let (rows, _) = plane.as_chunks::<GROUP_VECTORS>();
    for (byte, row) in rows.iter().enumerate() {
        let lower = &tables[table_start(2 * byte)..][..TABLE];
        let upper = &tables[table_start(2 * byte + 1)..][..TABLE];
        for (sum, code) in sums.iter_mut().zip(row) {
            *sum +=
                u16::from(lower[usize::from(code & 15)]) + u16::from(upper[usize::from(code >> 4)]);
        }
    }
    sums
}

/// As [`sums`], of both planes of a group: the first eight vectors, and the others.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sums_avx2(planes: [&[u8]; 2], tables: &[u8]) -> [[__m128i; 2]; 2] {
    let load = |bytes: &[u8; 32]| {
        // SAFETY: thirty-two bytes, at any address.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    };
    let nibbles = _mm256_set1_epi8(15);
    let low_bytes = _mm256_set1_epi16(255);
    let mut sums = [[_mm256_setzero_si256(); 2]; 2];
    let (tables, _) = tables.as_chunks::<32>();
    let (tables, _) = tables.as_chunks::<2>();
    let (upper, _) = planes[0].as_chunks::<32>();
    let (lower, _) = planes[1].as_chunks::<32>();
    for ((upper, lower), [low_table, high_table]) in upper.iter().zip(lower).zip(tables) {
        let (low_table, high_table) = (load(low_table), load(high_table));
        for (codes, [even, odd]) in [upper, lower].into_iter().zip(&mut sums) {
            let codes = load(codes);
            let low = _mm256_and_si256(codes, nibbles);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibbles);
            let low = _mm256_shuffle_epi8(low_table, low);
            let high = _mm256_shuffle_epi8(high_table, high);
            // At most 254, and no sum of a whole code passes sixteen bits.
            let both = _mm256_add_epi8(low, high);
            *even = _mm256_add_epi16(*even, _mm256_and_si256(both, low_bytes));
            *odd = _mm256_add_epi16(*odd, _mm256_srli_epi16::<8>(both));
        }
    }
    sums.map(|[even, odd]| {
        let halves = |sums: __m256i| {
            let high = _mm256_extracti128_si256::<1>(sums);
            _mm_add_epi16(_mm256_castsi256_si128(sums), high)
        };
        let (even, odd) = (halves(even), halves(odd));
        [_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd)]
    })
}
