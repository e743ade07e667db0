//! One spelling for each number: `1,200`, `$1200`, `1.2k` and `twelve hundred` become `1200`.

use std::iter::Peekable;

/// Number words whose value can be read off; "one" is left out, for it is mostly a pronoun.
const NUMBER_WORDS: &[(&str, u32)] = &[
    ("zero", 0),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
];

const SCALES: &[(&str, f64)] = &[
    ("hundred", 1e2),
    ("thousand", 1e3),
    ("k", 1e3),
    ("million", 1e6),
    ("m", 1e6),
    ("billion", 1e9),
    ("bn", 1e9),
];

/// A word, or a number in its one spelling (with `%` if it is a percentage).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NumberWord<'a> {
    Text(&'a str),
    Number(String),
}

/// Folds numbers in a sequence of words, each with the text that follows it.
pub(crate) fn fold_numbers<'a>(
    words: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<NumberWord<'a>> {
    let mut folded = Vec::new();
    let mut words = words.peekable();
    while let Some((word, mut rest)) = words.next() {
        let Some(mut value) = read_number(word) else {
            folded.push(NumberWord::Text(word));
            continue;
        };
        if is_tens_word(word, value)
            && let Some((unit, unit_rest)) =
                take_number(&mut words, |unit| (1.0..10.0).contains(&unit))
        {
            value += unit;
            rest = unit_rest;
        }
        while let Some((scale, scale_rest)) = take_scale(&mut words) {
            value *= scale;
            rest = scale_rest;
        }
        let is_percent = rest.starts_with('%') || take_percent(&mut words);
        folded.push(NumberWord::Number(format!(
            "{value}{}",
            if is_percent { "%" } else { "" }
        )));
    }
    folded
}

fn is_tens_word(word: &str, value: f64) -> bool {
    word.starts_with(char::is_alphabetic) && value >= 20.0
}

fn take_number<'a>(
    words: &mut Peekable<impl Iterator<Item = (&'a str, &'a str)>>,
    accepts: impl Fn(f64) -> bool,
) -> Option<(f64, &'a str)> {
    let is_word = |word: &str| word.starts_with(char::is_alphabetic);
    let value = words
        .peek()
        .filter(|(word, _)| is_word(word))
        .and_then(|(word, _)| read_number(word))?;
    let (_, rest) = words.next_if(|_| accepts(value))?;
    Some((value, rest))
}

fn take_scale<'a>(
    words: &mut Peekable<impl Iterator<Item = (&'a str, &'a str)>>,
) -> Option<(f64, &'a str)> {
    let (word, _) = words.peek()?;
    let word = word.to_lowercase();
    let (_, scale) = SCALES
        .iter()
        .find(|(name, _)| name.len() > 2 && *name == word)?;
    let (_, rest) = words.next()?;
    Some((*scale, rest))
}

fn take_percent<'a>(words: &mut Peekable<impl Iterator<Item = (&'a str, &'a str)>>) -> bool {
    if words
        .next_if(|(word, _)| matches!(word.to_lowercase().as_str(), "percent" | "pct"))
        .is_some()
    {
        return true;
    }
    let is_per_cent = |(word, rest): &(&str, &str)| {
        let next = rest.trim_start().get(..4).unwrap_or_default();
        word.eq_ignore_ascii_case("per") && next.eq_ignore_ascii_case("cent")
    };
    words.next_if(is_per_cent).is_some() && words.next().is_some()
}

/// The value of `1,200`, `1.5`, `15k`, `3rd` or `fifteen`.
fn read_number(word: &str) -> Option<f64> {
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        let word = word.to_lowercase();
        let (_, value) = NUMBER_WORDS.iter().find(|(name, _)| *name == word)?;
        return Some(f64::from(*value));
    }
    let digits_end = word
        .find(|c: char| !c.is_ascii_digit() && c != ',' && c != '.')
        .unwrap_or(word.len());
    let value: f64 = word[..digits_end].replace(',', "").parse().ok()?;
    match word[digits_end..].to_lowercase().as_str() {
        "" | "st" | "nd" | "rd" | "th" => Some(value),
        suffix => {
            let (_, scale) = SCALES.iter().find(|(name, _)| *name == suffix)?;
            Some(value * scale)
        }
    }
}
