//! How often a document says what, from PostgreSQL's `tsvector` as it is stored (tsearch/ts_type.h), behind its header:
//! a count of lexemes; for each a word of whether it has positions (1 bit), the length of its text (11) and where that
//! is (20); then the texts, each followed, on an even place, by a count of positions and positions of 16 bits, whose
//! highest two are a weight.

use super::Damaged;
use super::bm25::FREQUENCY_UNIT;

/// What a word counts where it stands: content is weight A, heading B, speaker C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldBoosts {
    pub heading: f32,
    pub speaker: f32,
}

impl Default for FieldBoosts {
    fn default() -> Self {
        Self {
            heading: 1.0,
            speaker: 1.0,
        }
    }
}

/// The lexemes of a document with their weighted frequencies, and its length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TermCounts<'a> {
    /// In [`FREQUENCY_UNIT`], none of them 0.
    pub terms: Vec<(&'a str, u8)>,
    /// Words of its content, 255 for more: what stands in front of it makes it no longer.
    pub length: u8,
}

/// Those of all lexemes of a document.
pub fn term_counts(vector: &[u8], boosts: FieldBoosts) -> Result<TermCounts<'_>, Damaged> {
    term_counts_of(vector, boosts, |_| true)
}

/// Those of the lexemes that are wanted; the length is that of the whole document.
pub fn term_counts_of(
    vector: &[u8],
    boosts: FieldBoosts,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<TermCounts<'_>, Damaged> {
    let (&count, rest) = vector.split_first_chunk::<4>().ok_or(Damaged)?;
    let count = usize::try_from(u32::from_ne_bytes(count)).map_err(|_| Damaged)?;
    let size = count.checked_mul(4).ok_or(Damaged)?;
    let (entries, texts) = rest.split_at_checked(size).ok_or(Damaged)?;
    let mut counts = TermCounts::default();
    let mut length = 0_usize;
    for entry in entries.chunks_exact(4) {
        let entry = u32::from_ne_bytes(entry.try_into().map_err(|_| Damaged)?);
        let start = (entry >> 12) as usize;
        let end = start + (entry >> 1 & 0x7ff) as usize;
        let lexeme = texts.get(start..end).ok_or(Damaged)?;
        let positions = match entry & 1 {
            0 => &[],
            _ => positions(texts, end.next_multiple_of(2))?,
        };
        let mut frequency = 0.0;
        for position in positions.chunks_exact(2) {
            match u16::from_ne_bytes([position[0], position[1]]) >> 14 {
                2 => frequency += boosts.heading,
                1 => frequency += boosts.speaker,
                _ => {
                    frequency += 1.0;
                    length += 1;
                }
            }
        }
        if !is_wanted(lexeme) {
            continue;
        }
        let lexeme = std::str::from_utf8(lexeme).map_err(|_| Damaged)?;
        // What is there counts something, however little its field does: phrases are looked up by it.
        let units = (frequency / FREQUENCY_UNIT).round().clamp(1.0, 255.0) as u8;
        counts.terms.push((lexeme, units));
    }
    counts.length = u8::try_from(length).unwrap_or(u8::MAX);
    Ok(counts)
}

fn positions(texts: &[u8], start: usize) -> Result<&[u8], Damaged> {
    let rest = texts.get(start..).ok_or(Damaged)?;
    let (&count, rest) = rest.split_first_chunk::<2>().ok_or(Damaged)?;
    rest.get(..2 * usize::from(u16::from_ne_bytes(count)))
        .ok_or(Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL stores it.
    fn vector(lexemes: &[(&str, &[u16])]) -> Vec<u8> {
        let mut entries = (lexemes.len() as u32).to_ne_bytes().to_vec();
        let mut texts: Vec<u8> = Vec::new();
        for (lexeme, positions) in lexemes {
            let entry = 1 | (lexeme.len() as u32) << 1 | (texts.len() as u32) << 12;
            entries.extend(entry.to_ne_bytes());
            texts.extend(lexeme.as_bytes());
            texts.resize(texts.len().next_multiple_of(2), 0);
            texts.extend((positions.len() as u16).to_ne_bytes());
            texts.extend(positions.iter().flat_map(|position| position.to_ne_bytes()));
        }
        [entries, texts].concat()
    }

    const A: u16 = 3 << 14;
    const B: u16 = 2 << 14;
    const C: u16 = 1 << 14;

    #[test]
    fn fields_count_by_their_boosts() {
        let bytes = vector(&[("price", &[A | 3, A | 9, B | 1]), ("dana", &[C | 1, A | 2])]);
        let boosts = FieldBoosts {
            heading: 1.5,
            speaker: 0.0,
        };
        let counts = term_counts(&bytes, boosts).expect("is a vector");
        assert_eq!(counts.terms, [("price", 7), ("dana", 2)]);
        assert_eq!(counts.length, 3);
        let wanted = term_counts_of(&bytes, boosts, |term| term == b"dana").expect("is a vector");
        assert_eq!((&wanted.terms[..], wanted.length), (&[("dana", 2)][..], 3));
        let only_speaker = vector(&[("dana", &[C | 1])]);
        let counts = term_counts(&only_speaker, boosts).expect("is a vector");
        assert_eq!(counts.terms, [("dana", 1)]);
    }

    #[test]
    fn damage_is_found() {
        let bytes = vector(&[("price", &[A | 3])]);
        for end in 0..bytes.len() {
            assert_eq!(
                term_counts(&bytes[..end], FieldBoosts::default()),
                Err(Damaged),
                "{end}"
            );
        }
        assert_eq!(
            term_counts(&vector(&[]), FieldBoosts::default()),
            Ok(TermCounts::default())
        );
    }
}
