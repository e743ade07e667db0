//! Card numbers (ISO/IEC 7812) and IBANs (ISO 13616), both with their checksums.

use std::sync::LazyLock;

use regex::Regex;

use super::{Finding, PiiKind};

/// Digits in groups; a card number may have others before and behind it, such as the date until which it is valid.
static DIGITS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[0-9]+(?:[ -][0-9]+)*\b").expect("is a pattern"));

/// Digits of a card number.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 12..=19;

static IBAN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}").expect("is a pattern")
});

/// Characters of an IBAN by country: the registry of SWIFT, version 99.
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 \
    DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 \
    IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 \
    MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 \
    ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for digits in DIGITS.find_iter(text) {
        // With a plus it is a telephone number.
        if digits.len() >= *CARD_DIGITS.start() && !text[..digits.start()].ends_with('+') {
            find_cards(digits.as_str(), digits.start(), found);
        }
    }
    for iban in IBAN.find_iter(text) {
        if let Some(length) = iban_length(iban.as_str(), &text[iban.end()..]) {
            found.push(Finding {
                kind: PiiKind::Iban,
                bytes: iban.start()..iban.start() + length,
            });
        }
    }
}

/// The card numbers among groups of digits; each is made of whole groups.
fn find_cards(text: &str, start: usize, found: &mut Vec<Finding>) {
    let mut groups = Vec::new();
    let mut at = 0;
    for group in text.split([' ', '-']) {
        groups.push(at..at + group.len());
        at += group.len() + 1;
    }
    let mut first = 0;
    while first < groups.len() {
        let mut count = 0;
        let ends = groups[first..].iter().enumerate().take_while(|(_, group)| {
            count += group.len();
            count <= *CARD_DIGITS.end()
        });
        let cards = ends.map(|(index, group)| (first + index, groups[first].start..group.end));
        let longest = cards
            .filter(|(_, bytes)| is_card(&text[bytes.clone()]))
            .last();
        first = match longest {
            Some((last, bytes)) => {
                found.push(Finding {
                    kind: PiiKind::Card,
                    bytes: start + bytes.start..start + bytes.end,
                });
                last + 1
            }
            None => first + 1,
        };
    }
}

/// Whether the digits begin as those of an issuer, and their check digit is right.
fn is_card(text: &str) -> bool {
    let digits: Vec<u8> = digits(text).collect();
    if !CARD_DIGITS.contains(&digits.len()) {
        return false;
    }
    let starts_with = |prefix: &str| {
        digits
            .iter()
            .zip(prefix.bytes())
            .all(|(d, p)| d + b'0' == p)
    };
    let has_issuer = match digits[0] {
        1 => starts_with("1800"),
        2 => starts_with("2131") || matches!(digits[1], 2..=7),
        3..=6 => true,
        _ => false,
    };
    has_issuer && passes_luhn(&digits)
}

pub(super) fn digits(text: &str) -> impl DoubleEndedIterator<Item = u8> {
    text.bytes()
        .filter(u8::is_ascii_digit)
        .map(|byte| byte - b'0')
}

/// ISO/IEC 7812-1, annex B.
pub(super) fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| match place % 2 {
            0 => u32::from(digit),
            _ => u32::from(digit * 2 / 10 + digit * 2 % 10),
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Bytes of the IBAN that a match begins with: as many characters as its country has. What follows the match
/// may not go on as a word when the IBAN fills it.
fn iban_length(text: &str, rest: &str) -> Option<usize> {
    let country = text.get(..2)?.to_ascii_uppercase();
    let length: usize = IBAN_LENGTHS
        .split_whitespace()
        .find_map(|entry| entry.strip_prefix(country.as_str()))?
        .parse()
        .ok()?;
    let mut characters = text
        .char_indices()
        .filter(|(_, c)| c.is_ascii_alphanumeric());
    let (last, _) = characters.nth(length - 1)?;
    let end = last + 1;
    let after = text[end..].chars().chain(rest.chars()).next();
    let is_whole = after.is_none_or(|c| !c.is_alphanumeric());
    (is_whole && passes_mod_97(&text[..end])).then_some(end)
}

/// ISO/IEC 7064, MOD 97-10, with the first four characters at the end.
fn passes_mod_97(text: &str) -> bool {
    let characters: Vec<u32> = text.chars().filter_map(|c| c.to_digit(36)).collect();
    let moved = characters[4..].iter().chain(&characters[..4]);
    let rest = moved.fold(0, |rest, &value| match value {
        0..10 => (rest * 10 + value) % 97,
        _ => (rest * 100 + value) % 97,
    });
    rest == 1
}
