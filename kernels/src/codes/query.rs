//! Bounds of the cosines of a query with the vectors of a group.

// Instructions of AVX2, where the processor has them.
#![allow(unsafe_code)]

use super::encoder::length;
use super::rotation::rotate;
use super::{CodeShape, GROUP_VECTORS, HEAD_BYTES};
use crate::lanes::Level;

/// How many standard deviations an estimate may be too small: RaBitQ's ε₀, at which less than one vector in a hundred
/// is missed.
const DEVIATIONS: f32 = 1.9;
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
        assert!(centre.len() == shape.dimensions && query.len() == shape.dimensions);
        let norm = length(query);
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        let mut turned = vec![0.0; shape.filled];
        let mut base = 0.0;
        for ((turned, value), centre) in turned.iter_mut().zip(query).zip(centre) {
            *turned = value * scale - centre;
            base += *turned * centre;
        }
        rotate(&mut turned);
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
            base,
            slack: DEVIATIONS * length(&turned),
            shape,
        }
    }

    /// What the cosine of each vector of a group is at most, almost surely; negative infinity for places that are free.
    /// None when the bytes are no group of this shape.
    #[inline]
    pub fn bounds(&self, group: &[u8]) -> Option<[f32; GROUP_VECTORS]> {
        if group.len() != self.shape.group_bytes() {
            return None;
        }
        let (head, planes) = group.split_at(HEAD_BYTES);
        let (upper, lower) = planes.split_at(self.shape.plane_bytes());
        let (upper, lower) = (self.sums(upper), self.sums(lower));
        let numbers = &head[8 * GROUP_VECTORS..];
        let number = |column: usize, place: usize| {
            let at = 4 * (column * GROUP_VECTORS + place);
            let bytes = numbers[at..at + 4].first_chunk().copied();
            f32::from_le_bytes(bytes.unwrap_or_default())
        };
        let mut bounds = [0.0; GROUP_VECTORS];
        for (place, bound) in bounds.iter_mut().enumerate() {
            let entries = 2 * u32::from(upper[place]) + u32::from(lower[place]);
            let product = self.unit * entries as f32 + self.offset;
            *bound = self.base
                + number(0, place)
                + number(1, place) * product
                + number(2, place) * self.slack;
        }
        Some(bounds)
    }

    /// The id of a vector of a group, 0 where its place is free.
    pub fn id(&self, group: &[u8], place: usize) -> i64 {
        let bytes = group.get(8 * place..8 * (place + 1));
        bytes
            .and_then(|bytes| bytes.first_chunk().copied())
            .map_or(0, i64::from_le_bytes)
    }

    /// For each vector the sum of what the tables have for its bits.
    #[inline]
    fn sums(&self, plane: &[u8]) -> [u16; GROUP_VECTORS] {
        #[cfg(target_arch = "x86_64")]
        if !matches!(self.level, Level::Portable) {
            // SAFETY: all levels but the portable one are of processors with AVX2.
            return unsafe { sums_avx2(plane, &self.tables) };
        }
        sums(plane, &self.tables)
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

/// As [`sums`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sums_avx2(plane: &[u8], tables: &[u8]) -> [u16; GROUP_VECTORS] {
    #[allow(clippy::wildcard_imports, reason = "a dozen instructions")]
    use std::arch::x86_64::*;

    let load = |bytes: &[u8; 32]| {
        // SAFETY: thirty-two bytes, at any address.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    };
    let nibbles = _mm256_set1_epi8(15);
    let low_bytes = _mm256_set1_epi16(255);
    let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    let (rows, _) = plane.as_chunks::<32>();
    let (tables, _) = tables.as_chunks::<64>();
    for (row, table) in rows.iter().zip(tables) {
        let (lower, upper) = table.split_at(32);
        let (Some(lower), Some(upper)) = (lower.first_chunk(), upper.first_chunk()) else {
            break;
        };
        let codes = load(row);
        let low = _mm256_and_si256(codes, nibbles);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibbles);
        let low = _mm256_shuffle_epi8(load(lower), low);
        let high = _mm256_shuffle_epi8(load(upper), high);
        // At most 254, and no sum of a whole code passes sixteen bits.
        let both = _mm256_add_epi8(low, high);
        even = _mm256_add_epi16(even, _mm256_and_si256(both, low_bytes));
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(both));
    }
    let halves = |sums: __m256i| {
        _mm_add_epi16(
            _mm256_castsi256_si128(sums),
            _mm256_extracti128_si256::<1>(sums),
        )
    };
    let (even, odd) = (halves(even), halves(odd));
    let mut sums = [[0; GROUP_VECTORS / 2]; 2];
    for (half, values) in sums
        .iter_mut()
        .zip([_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd)])
    {
        // SAFETY: sixteen bytes, at any address.
        unsafe { _mm_storeu_si128(half.as_mut_ptr().cast(), values) };
    }
    let mut all = [0; GROUP_VECTORS];
    all.copy_from_slice(sums.as_flattened());
    all
}
