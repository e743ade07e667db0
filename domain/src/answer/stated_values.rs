//! The values that a sentence states: sums, percentages, counts of something, and days of the year.
//!
//! Only what is surely a value is read: no bounds ("up to 40"), ranges or times. Numbers that are no values are labels
//! ("phase 2", "in 2027"): they say of what the values are.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};
use unicode_segmentation::UnicodeSegmentation;

use crate::numbers::{NumberWord, fold_numbers};
use crate::words::stems;

/// Sums that differ by more than this factor are hardly about the same: 45 and 45,000.
const MAGNITUDE_MAX: f64 = 10.0;

/// How far apart the same amount may be, where one of the sentences says "about".
const ROUGH_SHARE: f64 = 0.1;

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

#[rustfmt::skip]
const BOUNDS: [&str; 15] = [
    "than", "least", "most", "under", "over", "above", "below", "before", "after", "by", "until", "till", "since", "from",
    "within",
];

/// Words that make what is denied a part of it only, like a bound.
const PART_WORDS: [&str; 3] = ["without", "only", "unless"];

/// A number behind these is a label, whatever follows; behind a name it is one too.
#[rustfmt::skip]
const LABELLED: [&str; 24] = [
    "phase", "stage", "step", "tier", "level", "option", "version", "invoice", "order", "ticket", "number", "item", "lot",
    "batch", "round", "milestone", "year", "month", "week", "quarter", "section", "article", "site", "depot",
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

/// A number without currency or unit is a sum behind these alone.
const SUM_WORDS: [&str; 8] = ["is", "at", "costs", "cost", "pay", "pays", "about", "now"];

/// Behind these a month is meant; "may" and "march" are words of their own.
const DATE_WORDS: [&str; 11] = [
    "in", "until", "till", "by", "of", "since", "for", "from", "early", "mid", "late",
];

/// The values of one sentence.
pub(super) struct StatedValues {
    values: Vec<Value>,
    /// Numbers that say of what the values are.
    labels: BTreeSet<String>,
    is_rough: bool,
    has_bound: bool,
}

/// What a word of a sentence is, if it is a number or a day.
enum Found {
    Value(Value),
    Label(String),
    /// A range, or something that cannot be read.
    Unknown,
}

/// A value, and of what kind it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// In a currency, where it is named.
    Sum(f64, Option<&'static str>),
    Percent(f64),
    /// Of a unit, by its stem.
    Count(f64, String),
    Days(DaysOfYear),
}

/// Days from the first to the last, each as month and day; of any year where none is named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DaysOfYear {
    year: Option<i32>,
    first: (u32, u32),
    last: (u32, u32),
}

impl StatedValues {
    pub(super) fn read(sentence: &str) -> Self {
        let (mut values, mut labels) = (Vec::new(), BTreeSet::new());
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
        for found in plain.lines().flat_map(|line| Clause::new(line).found()) {
            match found {
                Found::Value(value) => values.push(value),
                Found::Label(label) => {
                    labels.insert(label);
                }
                Found::Unknown => {}
            }
        }
        let words: Vec<String> = plain.unicode_words().map(str::to_lowercase).collect();
        let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
        let is_up_to = words.windows(2).any(|pair| pair == ["up", "to"]);
        Self {
            values,
            labels,
            is_rough: has(&ROUGHLY),
            has_bound: has(&BOUNDS) || has(&PART_WORDS) || is_up_to,
        }
    }

    /// The value of this that the other contradicts: both state one of its kind, not the same one, and all else is alike.
    ///
    /// Where two kinds differ one is mostly the condition of the other: the price for ten users, and for twenty.
    pub(super) fn contradicted_by(&self, other: &Self) -> Option<&Value> {
        if self.labels != other.labels {
            return None;
        }
        let is_rough = self.is_rough || other.is_rough;
        let mut differing = self.values.iter().filter(|value| {
            let others = other.values.iter();
            let mut others = others.filter(|other| value.is_of_kind(other));
            others.any(|other| value.differs(other, is_rough))
        });
        let value = differing.next().filter(|_| differing.next().is_none())?;
        let only = |stated: &Self| {
            let alike = stated.values.iter().filter(|other| value.is_of_kind(other));
            alike.count() == 1
        };
        let is_near = |other: &Value| value.is_of_kind(other) && value.is_of_magnitude(other);
        (only(self) && only(other) && other.values.iter().any(is_near)).then_some(value)
    }

    /// Whether one of both may be the denial of the other: they state the same, and neither has a bound.
    pub(super) fn can_be_denied_by(&self, other: &Self) -> bool {
        let has_same = |value: &Value| {
            let mut others = other.values.iter();
            others.any(|other| value.is_of_kind(other) && !value.differs(other, false))
        };
        !self.has_bound
            && !other.has_bound
            && self.labels == other.labels
            && self.values.len() == other.values.len()
            && self.values.iter().all(has_same)
    }

    /// Whether the value is stated here too, in whatever words.
    pub(super) fn states(&self, value: &Value) -> bool {
        let is_same = |own: &Value| own.is_of_kind(value) && !own.differs(value, self.is_rough);
        self.values.iter().any(is_same) || self.labels.contains(&value.amount().to_string())
    }
}

impl Value {
    fn is_of_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sum(_, currency), Self::Sum(_, other)) => {
                currency.is_none() || other.is_none() || currency == other
            }
            (Self::Count(_, unit), Self::Count(_, other)) => unit == other,
            (Self::Percent(_), Self::Percent(_)) | (Self::Days(_), Self::Days(_)) => true,
            _ => false,
        }
    }

    /// Whether both may be about the same, as far as their size tells.
    fn is_of_magnitude(&self, other: &Self) -> bool {
        let (one, two) = (self.amount(), other.amount());
        matches!(self, Self::Percent(_)) || one.max(two) <= MAGNITUDE_MAX * one.min(two)
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

    fn found(&self) -> Vec<Found> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < self.words.len() {
            let (found, length) = self.found_at(at).unwrap_or((Found::Unknown, 1));
            all.push(found);
            at += length;
        }
        all
    }

    /// What a word is, and how many words it has.
    fn found_at(&self, at: usize) -> Option<(Found, usize)> {
        let days = self.days(at);
        let days = days.map(|(value, length)| (Found::Value(value), length));
        let (found, length) = days.or_else(|| self.number(at))?;
        Some(match found {
            Found::Value(_) if self.is_bound(at) => (Found::Unknown, length),
            found => (found, length),
        })
    }

    fn is_bound(&self, at: usize) -> bool {
        let start = self.start(at);
        let word = self.text_before(start);
        let is_up_to = word == "to" && self.text_before(start - 1) == "up";
        is_up_to || BOUNDS.contains(&word.as_str())
    }

    /// "May 27", "27 May", "30th of November", "in May", "Q3".
    fn days(&self, at: usize) -> Option<(Value, usize)> {
        let text = self.text(at);
        let quarter = text.strip_prefix('q').and_then(|digit| digit.parse().ok());
        if let Some(quarter @ 1..=4_u32) = quarter {
            return Some((days((3 * quarter - 2, 1), (3 * quarter, 31)), 1));
        }
        if let Some(month) = self.month(at) {
            if let Some(day) = self.day_of_month(at + 1) {
                return Some((days((month, day), (month, day)), 2));
            }
            let is_meant = DATE_WORDS.contains(&self.text_before(at).as_str());
            return is_meant.then(|| (days((month, 1), (month, 31)), 1));
        }
        let day = self.day_of_month(at)?;
        let month_at = at + 1 + usize::from(self.text(at + 1) == "of");
        let month = self.month(month_at)?;
        Some((days((month, day), (month, day)), month_at + 1 - at))
    }

    fn number(&self, at: usize) -> Option<(Found, usize)> {
        let number = self.number_text(at)?;
        let range_word = usize::from(RANGE_WORDS.contains(&self.text(at + 1).as_str()));
        if self.number_text(at + 1 + range_word).is_some() {
            return Some((Found::Unknown, 2 + range_word));
        }
        let Ok(amount) = number.parse::<f64>() else {
            let percent = number.trim_end_matches('%').parse();
            return Some((
                percent.map_or(Found::Unknown, |percent| {
                    Found::Value(Value::Percent(percent))
                }),
                1,
            ));
        };
        let currency = currency(&self.text(at + 1)).or_else(|| currency(&self.text_before(at)));
        let unit = stems(&self.text(at + 1)).into_iter().next();
        let is_sum = SUM_WORDS.contains(&self.text_before(at).as_str()) && !YEARS.contains(&amount);
        let found = match unit {
            _ if currency.is_some() => Found::Value(Value::Sum(amount, currency)),
            _ if self.is_labelled(at) => Found::Label(number.to_owned()),
            Some(unit) => Found::Value(Value::Count(amount, unit)),
            None if is_sum => Found::Value(Value::Sum(amount, None)),
            None => Found::Label(number.to_owned()),
        };
        Some((found, 1))
    }

    /// Whether a number belongs to the word before it: a name, or something that has numbers.
    fn is_labelled(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.words.get(before));
        let Some(NumberWord::Text(text)) = before else {
            return false;
        };
        let is_name = text.starts_with(char::is_uppercase) && !stems(text).is_empty();
        is_name || LABELLED.contains(&text.to_lowercase().as_str())
    }

    /// The word in small letters; empty where there is none, or a number.
    fn text(&self, at: usize) -> String {
        match self.words.get(at) {
            Some(NumberWord::Text(text)) => text.to_lowercase(),
            _ => String::new(),
        }
    }

    /// The word before in small letters; empty where there is none.
    fn text_before(&self, at: usize) -> String {
        let before = at.checked_sub(1).map(|before| self.text(before));
        before.unwrap_or_default()
    }

    /// Where a value begins, with the currency before it.
    fn start(&self, at: usize) -> usize {
        at - usize::from(currency(&self.text_before(at)).is_some())
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
