//! What a head reads of a text without a model: its words and its shape.

use std::collections::BTreeMap;

use unicode_segmentation::UnicodeSegmentation;

/// Words and pairs of words share so many places (the hashing trick: Weinberger et al., ICML 2009).
const PLACES: u32 = 1 << 13;
/// Marks that count as words; a question is known by its own.
const MARKS: [&str; 4] = ["?", "!", ".", ","];
/// After the words.
const BIAS: u32 = PLACES;
const BYTES: u32 = PLACES + 1;
const WORDS: u32 = PLACES + 2;
const ASKS: u32 = PLACES + 3;
const CALLS: u32 = PLACES + 4;
const CAPITAL: u32 = PLACES + 5;
const DIGITS: u32 = PLACES + 6;
pub(super) const WIDTH: usize = PLACES as usize + 7;

/// Values by their places, below [`WIDTH`]; the words' have length 1 together.
pub struct Features(Vec<(u32, f32)>);

impl Features {
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        let words: Vec<String> = text
            .split_word_bounds()
            .filter(|word| MARKS.contains(word) || word.chars().any(char::is_alphanumeric))
            .map(str::to_lowercase)
            .collect();
        let mut counts: BTreeMap<u32, f32> = BTreeMap::new();
        let singles = words.iter().map(|word| place(&[word]));
        let pairs = words.windows(2).map(|pair| place(&[&pair[0], &pair[1]]));
        for place in singles.chain(pairs) {
            *counts.entry(place).or_default() += 1.0;
        }
        let length = counts.values().map(|count| count * count).sum::<f32>();
        let length = length.sqrt().max(1.0);
        let mut values: Vec<(u32, f32)> = counts
            .into_iter()
            .map(|(place, count)| (place, count / length))
            .collect();
        let flag = |is: bool| f32::from(u8::from(is)) / 2.0;
        values.extend([
            (BIAS, 1.0),
            (BYTES, (text.len() as f32 + 1.0).ln() / 8.0),
            (WORDS, (words.len() as f32 + 1.0).ln() / 6.0),
            (ASKS, flag(text.contains('?'))),
            (CALLS, flag(text.contains('!'))),
            (CAPITAL, flag(text.starts_with(char::is_uppercase))),
            (DIGITS, flag(text.contains(|c: char| c.is_ascii_digit()))),
        ]);
        Self(values)
    }

    pub(super) fn values(&self) -> &[(u32, f32)] {
        &self.0
    }
}

/// FNV-1a (draft-eastlake-fnv); each word ends with a byte that no text has.
fn place(words: &[&str]) -> u32 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The upper bits are mixed best.
    (hash >> (64 - PLACES.ilog2())) as u32
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
