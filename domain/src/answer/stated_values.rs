//! The values that a sentence states: sums, percentages, counts of something, and days of the year.
//!
//! Only what is surely a value is read: no bounds ("up to 40"), ranges, years, times or labels ("phase 2").

use chrono::{Datelike, NaiveDate};
use unicode_segmentation::UnicodeSegmentation;

use crate::numbers::{NumberWord, fold_numbers};
use crate::words::stems;

/// Sums that differ by more than this factor are hardly about the same: 45 and 45,000.
const MAGNITUDE_MAX: f64 = 10.0;

/// How far apart the same amount may be, where one of the sentences says "about".
const ROUGH_SHARE: f64 = 0.1;

/// A number without currency or unit is a sum from here on, or behind a small word ("it is 40").
const BARE_SUM_MIN: f64 = 100.0;

const YEARS: std::ops::Range<f64> = 1990.0..2041.0;

#[rustfmt::skip]
pub(super) const MONTHS: [&str; 12] = [
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
];

/// What an amount of money is named by: a sign, or words; the first word is its name.
pub(super) const CURRENCIES: [(char, &[&str]); 3] = [
    ('$', &["dollar", "dollars", "usd"]),
    ('€', &["euro", "euros", "eur"]),
    ('£', &["pound", "pounds", "gbp"]),
];

const BOUNDS: [&str; 9] = [
    "than", "least", "most", "under", "over", "above", "below", "before", "after",
];
const ROUGHLY: [&str; 6] = [
    "about",
    "around",
    "roughly",
    "almost",
    "nearly",
    "approximately",
];
const RANGE_WORDS: [&str; 4] = ["to", "or", "and", "through"];
const SMALL_WORDS: [&str; 8] = ["is", "was", "at", "to", "for", "of", "are", "were"];

/// Behind these a month is meant; "may" and "march" are words of their own.
const DATE_WORDS: [&str; 11] = [
    "in", "until", "till", "by", "of", "since", "for", "from", "early", "mid", "late",
];

/// The values of one sentence.
pub(super) struct StatedValues {
    values: Vec<Value>,
    is_rough: bool,
}

/// A value, and of what kind it is.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// In a currency, where it is named.
    Sum(f64, Option<&'static str>),
    Percent(f64),
    /// Of a unit, by its stem.
    Count(f64, String),
    Days(DaysOfYear),
}

/// Days from the first to the last, each as month and day; of any year where none is named.
#[derive(Debug, Clone, Copy, PartialEq)]
struct DaysOfYear {
    year: Option<i32>,
    first: (u32, u32),
    last: (u32, u32),
}

impl StatedValues {
    pub(super) fn read(sentence: &str) -> Self {
        let mut values = Vec::new();
        let mut plain = String::with_capacity(sentence.len());
        for word in sentence.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            if let Ok(date) = NaiveDate::parse_from_str(bare, "%Y-%m-%d") {
                values.push(Value::Days(DaysOfYear::day(date)));
            } else if !is_time_of_day(bare) {
                plain.push_str(word);
            }
            // What stands before and behind a comma does not belong together.
            let ends_clause = word.ends_with([',', ';', ':', ')']);
            plain.push(if ends_clause { '\n' } else { ' ' });
        }
        for (sign, names) in CURRENCIES {
            plain = plain.replace(sign, &format!(" {} ", names[0]));
        }
        values.extend(plain.lines().flat_map(|line| Clause::new(line).values()));
        let is_roughly = |word: &str| ROUGHLY.contains(&word.to_lowercase().as_str());
        Self {
            values,
            is_rough: plain.unicode_words().any(is_roughly),
        }
    }

    /// Whether both state one value of the same kind, and not the same one.
    pub(super) fn contradict(&self, other: &Self) -> bool {
        let is_rough = self.is_rough || other.is_rough;
        self.values.iter().any(|value| {
            match (self.only_one_like(value), other.only_one_like(value)) {
                (Some(_), Some(against)) => value.differs(against, is_rough),
                _ => false,
            }
        })
    }

    fn only_one_like(&self, value: &Value) -> Option<&Value> {
        let mut alike = self.values.iter().filter(|other| value.is_like(other));
        alike.next().filter(|_| alike.next().is_none())
    }
}

impl Value {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sum(one, currency), Self::Sum(two, other)) => {
                let is_same_currency = currency.is_none() || other.is_none() || currency == other;
                is_same_currency && is_of_magnitude(*one, *two)
            }
            (Self::Count(one, unit), Self::Count(two, other)) => {
                unit == other && is_of_magnitude(*one, *two)
            }
            (Self::Percent(_), Self::Percent(_)) | (Self::Days(_), Self::Days(_)) => true,
            _ => false,
        }
    }

    fn differs(&self, other: &Self, is_rough: bool) -> bool {
        match (self, other) {
            (Self::Days(one), Self::Days(two)) => one.differs(two),
            _ => {
                let (one, two) = (self.amount(), other.amount());
                let share = if is_rough { ROUGH_SHARE } else { 0.0 };
                (one - two).abs() > share * one.max(two)
            }
        }
    }

    fn amount(&self) -> f64 {
        match self {
            Self::Sum(amount, _) | Self::Percent(amount) | Self::Count(amount, _) => *amount,
            Self::Days(_) => 0.0,
        }
    }
}

fn is_of_magnitude(one: f64, two: f64) -> bool {
    one.max(two) <= MAGNITUDE_MAX * one.min(two)
}

impl DaysOfYear {
    fn day(date: NaiveDate) -> Self {
        let day = (date.month(), date.day());
        Self {
            year: Some(date.year()),
            first: day,
            last: day,
        }
    }

    fn differs(&self, other: &Self) -> bool {
        let is_other_year = self
            .year
            .zip(other.year)
            .is_some_and(|(one, two)| one != two);
        is_other_year || self.last < other.first || other.last < self.first
    }
}

fn is_time_of_day(word: &str) -> bool {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    word.split_once(':')
        .is_some_and(|(hour, minute)| is_digits(hour) && is_digits(minute))
}

/// What stands between two commas.
struct Clause<'a> {
    words: Vec<NumberWord<'a>>,
}

impl<'a> Clause<'a> {
    fn new(text: &'a str) -> Self {
        let words = text.unicode_word_indices();
        let words = fold_numbers(words.map(|(at, word)| (word, &text[at + word.len()..])));
        Self { words }
    }

    fn values(&self) -> Vec<Value> {
        let mut values = Vec::new();
        let mut at = 0;
        while at < self.words.len() {
            let (value, length) = self.value(at).unwrap_or((None, 1));
            values.extend(value);
            at += length;
        }
        values
    }

    /// The value at a word and how many words it has; no value where it is none that can be compared.
    fn value(&self, at: usize) -> Option<(Option<Value>, usize)> {
        let (found, length) = self.days(at).or_else(|| self.number(at))?;
        let is_bound = BOUNDS.contains(&self.before(at).as_str())
            || self.before(at) == "to" && at > 1 && self.text(at - 2) == "up";
        Some((found.filter(|_| !is_bound), length))
    }

    /// "May 27", "27 May", "30th of November", "in May", "Q3".
    fn days(&self, at: usize) -> Option<(Option<Value>, usize)> {
        let text = self.text(at);
        let quarter = text.strip_prefix('q').and_then(|digit| digit.parse().ok());
        if let Some(quarter @ 1..=4_u32) = quarter {
            return Some((Some(days((3 * quarter - 2, 1), (3 * quarter, 31))), 1));
        }
        if let Some(month) = self.month(at) {
            if let Some(day) = self.day_of_month(at + 1) {
                return Some((Some(days((month, day), (month, day))), 2));
            }
            let is_meant = at > 0 && DATE_WORDS.contains(&self.text(at - 1).as_str());
            return is_meant.then(|| (Some(days((month, 1), (month, 31))), 1));
        }
        let day = self.day_of_month(at)?;
        let month_at = at + 1 + usize::from(self.text(at + 1) == "of");
        let month = self.month(month_at)?;
        Some((Some(days((month, day), (month, day))), month_at + 1 - at))
    }

    fn number(&self, at: usize) -> Option<(Option<Value>, usize)> {
        let number = self.number_text(at)?;
        let range_word = usize::from(RANGE_WORDS.contains(&self.text(at + 1).as_str()));
        if self.number_text(at + 1 + range_word).is_some() {
            return Some((None, 2 + range_word));
        }
        let Ok(amount) = number.parse::<f64>() else {
            let percent = number.trim_end_matches('%').parse().ok();
            return Some((percent.map(Value::Percent), 1));
        };
        let currency = currency(&self.text(at + 1)).or_else(|| {
            at.checked_sub(1)
                .and_then(|before| currency(&self.text(before)))
        });
        if currency.is_some() {
            return Some((Some(Value::Sum(amount, currency)), 1));
        }
        if let Some(unit) = stems(&self.text(at + 1)).into_iter().next() {
            return Some((Some(Value::Count(amount, unit)), 1));
        }
        let is_sum = amount >= BARE_SUM_MIN || SMALL_WORDS.contains(&self.before(at).as_str());
        let is_year = YEARS.contains(&amount);
        Some(((is_sum && !is_year).then_some(Value::Sum(amount, None)), 1))
    }

    /// The word in small letters; empty where there is none, or a number.
    fn text(&self, at: usize) -> String {
        match self.words.get(at) {
            Some(NumberWord::Text(text)) => text.to_lowercase(),
            _ => String::new(),
        }
    }

    /// The word before a value, its currency left out.
    fn before(&self, at: usize) -> String {
        let before = |at: usize| {
            at.checked_sub(1)
                .map(|before| self.text(before))
                .unwrap_or_default()
        };
        match currency(&before(at)) {
            Some(_) => before(at - 1),
            None => before(at),
        }
    }

    fn number_text(&self, at: usize) -> Option<&str> {
        match self.words.get(at) {
            Some(NumberWord::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// A month, from 1; written with a capital letter.
    fn month(&self, at: usize) -> Option<u32> {
        let Some(NumberWord::Text(text)) = self.words.get(at) else {
            return None;
        };
        let month = (1..)
            .zip(MONTHS)
            .find(|(_, name)| text.eq_ignore_ascii_case(name));
        let (month, _) = month.filter(|_| text.starts_with(char::is_uppercase))?;
        Some(month)
    }

    fn day_of_month(&self, at: usize) -> Option<u32> {
        let day = self.number_text(at)?.parse().ok()?;
        (1..=31).contains(&day).then_some(day)
    }
}

fn days(first: (u32, u32), last: (u32, u32)) -> Value {
    Value::Days(DaysOfYear {
        year: None,
        first,
        last,
    })
}

fn currency(word: &str) -> Option<&'static str> {
    let found = CURRENCIES.iter().find(|(_, names)| names.contains(&word));
    found.map(|(_, names)| names[0])
}

#[cfg(test)]
#[path = "stated_values_tests.rs"]
mod tests;
