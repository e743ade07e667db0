//! Telephone numbers: seven to fifteen digits (ITU-T E.164) in the groups that people write.

use std::sync::LazyLock;

use regex::Regex;

use super::payment::digits;
use super::{Finding, PiiKind, add, labels};

/// Digits in groups, with what may stand before and behind them.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?:(?:\+|\b00)[0-9]{6,15}|(?:\+|\b00)?\(?\+?[0-9]{1,5}\)?)(?:[ \u{a0}./-]?[ -]?\(?[0-9]{1,5}\)?){0,6}",
        r"(?:(?: ?(?:x|ext\.?|extension) ?)[0-9]{1,6})?"
    ))
    .expect("is a pattern")
});

/// Dates and times, which have the same shape.
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:(?:19|20)[0-9]{2}[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:0?[1-9]|[12][0-9]|3[01])(?: [0-9]{1,2})?|(?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2} ?[-/] ?(?:19|20)?[0-9]{2})$",
    )
    .expect("is a pattern")
});

/// Words that a number follows which is to be called.
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)\b(?:phone|telephone|tel|mobile|cell|fax|call|dial|reach|text|sms|whatsapp|desk|office|direct|telefon|handy|mobil|messages? to|number|at)\b[^0-9\n]*$",
    )
    .expect("is a pattern")
});

/// Characters between such words and the number.
const REACH: usize = 30;

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let numbers = NUMBER
        .find_iter(text)
        .filter(|number| is_phone(text, number.range()));
    add(found, PiiKind::Phone, numbers.map(|number| number.range()));
}

fn is_phone(text: &str, bytes: std::ops::Range<usize>) -> bool {
    let number = &text[bytes.clone()];
    let (before, behind) = (&text[..bytes.start], &text[bytes.end..]);
    // Part of a word, of an amount, of a longer number or of a path.
    let is_joined = |c: char| c.is_alphanumeric() || "_#$€£¥%@=/".contains(c);
    if before.ends_with(is_joined) || behind.starts_with(|c: char| c.is_alphanumeric() || c == '%')
    {
        return false;
    }
    let count = digits(number.split(['x', 'e']).next().unwrap_or_default()).count();
    if !(7..=15).contains(&count) || DATE.is_match(number) {
        return false;
    }
    let is_international = number.starts_with(['+', '(']) || number.starts_with("00");
    let groups: Vec<usize> = number
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .filter(|length| *length > 0)
        .collect();
    let is_grouped = match groups.as_slice() {
        // Two halves, each of at least three digits.
        [first, second] => *first >= 3 && *second >= 3,
        groups => groups.len() >= 3,
    };
    let is_named = || LABEL.is_match(labels::before(text, bytes.start, REACH));
    is_international || is_grouped || is_named()
}
