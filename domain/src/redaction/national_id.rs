//! Social security, tax and identity numbers: by shape and checksum where they have one, else by the words
//! before them.

use std::sync::LazyLock;

use regex::Regex;

use super::payment::{digits, passes_luhn};
use super::{Finding, PiiKind, add};

struct Rule {
    pattern: LazyLock<Regex>,
    is_valid: fn(&str) -> bool,
}

macro_rules! rule {
    ($pattern:literal, $is_valid:expr) => {
        Rule {
            pattern: LazyLock::new(|| Regex::new($pattern).expect("is a pattern")),
            is_valid: $is_valid,
        }
    };
}

/// Numbers that are known by themselves.
static RULES: [Rule; 9] = [
    // United States, social security: areas 000, 666 and from 900 on are not given out.
    rule!(r"\b[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}\b", is_ssn),
    // United Kingdom, national insurance.
    rule!(
        r"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
        |text| text.starts_with(|c: char| c.is_ascii_uppercase())
    ),
    // Canada, social insurance.
    rule!(r"\b[1-79][0-9]{2}[- ][0-9]{3}[- ][0-9]{3}\b", luhn),
    // Spain, DNI and NIE.
    rule!(r"\b[XYZ0-9]-?[0-9]{7}-?[A-HJ-NP-TV-Z]\b", is_dni),
    // France, INSEE.
    rule!(
        r"\b[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
        is_insee
    ),
    // Italy, codice fiscale.
    rule!(
        r"\b[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b",
        |_| { true }
    ),
    // Finland, henkilötunnus.
    rule!(
        r"\b[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]\b",
        is_hetu
    ),
    // Sweden, personnummer.
    rule!(
        r"\b(?:19|20)?[0-9]{2}[01][0-9][0-3][0-9][-+][0-9]{4}\b",
        |text| {
            let digits: Vec<u8> = digits(text).collect();
            passes_luhn(&digits[digits.len() - 10..])
        }
    ),
    // India, PAN.
    rule!(r"\b[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]\b", |_| true),
];

/// A number that is named: letters, digits and their separators, with four digits at least.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\b(?:ssn|social security|social insurance|national insurance|nino|sin|itin|tin|tax(?:payer)? id|",
        r"steuer-?id(?:entifikationsnummer)?|pesel|bsn|cpf|curp|aadhaar|national id|identity card|id card|",
        r"passport|driver'?s?'? licen[cs]e|driving licen[cs]e|medicare|nhs)",
        r"(?: ?(?:number|card|code|no\.?|nr\.?|#))*(?: (?:is|was))?[:#= ]+",
        r"([A-Z]{0,3}[ -]?[0-9][A-Z0-9]*(?:[ .-][0-9][A-Z0-9]*)*)"
    ))
    .expect("is a pattern")
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for rule in &RULES {
        let numbers = rule.pattern.find_iter(text);
        let valid = numbers.filter(|number| (rule.is_valid)(number.as_str()));
        add(
            found,
            PiiKind::NationalId,
            valid.map(|number| number.range()),
        );
    }
    let named = NAMED.captures_iter(text).filter_map(|found| found.get(1));
    let long = named.filter(|number| (4..=20).contains(&digits(number.as_str()).count()));
    add(
        found,
        PiiKind::NationalId,
        long.map(|number| number.range()),
    );
}

fn is_ssn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', ' ']).collect();
    !matches!(parts[0], "000" | "666")
        && !parts[0].starts_with('9')
        && parts[1] != "00"
        && parts[2] != "0000"
        && text.contains('-')
}

fn luhn(text: &str) -> bool {
    let digits: Vec<u8> = digits(text).collect();
    passes_luhn(&digits)
}

/// The letter is the number's rest by 23; a first letter X, Y or Z stands for 0, 1 or 2.
fn is_dni(text: &str) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let characters: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    let (number, letter) = characters.split_at(8);
    let value = number.iter().fold(0, |value, &c| {
        let digit = match c {
            b'X' => 0,
            b'Y' => 1,
            b'Z' => 2,
            _ => usize::from(c - b'0'),
        };
        value * 10 + digit
    });
    LETTERS[value % 23] == letter[0]
}

/// The last two digits are 97 less the rest by 97; in Corsica 2A counts as 19 and 2B as 18.
fn is_insee(text: &str) -> bool {
    let text = text
        .replace(' ', "")
        .replace("2A", "19")
        .replace("2B", "18");
    let (Some(number), Some(key)) = (text.get(..13), text.get(13..)) else {
        return false;
    };
    let (number, key) = (number.parse::<u64>(), key.parse::<u64>());
    number.is_ok_and(|number| key == Ok(97 - number % 97))
}

/// The last character is the rest by 31 of the digits of birth and number.
fn is_hetu(text: &str) -> bool {
    const CHARACTERS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let bytes = text.as_bytes();
    let number: Vec<u8> = [&bytes[..6], &bytes[7..10]].concat();
    let value = number
        .iter()
        .fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    CHARACTERS[value % 31] == bytes[10]
}
