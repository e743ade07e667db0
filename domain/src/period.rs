//! When a question is about: the first period that an English text names ("last quarter", "since March", "Q3 2026").

use std::ops::Range;

use chrono::{Datelike, Days, Months, NaiveDate};

/// Days of the calendar; open where a side is None.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub since: Option<NaiveDate>,
    /// The first day that is no longer of it.
    pub until: Option<NaiveDate>,
}

/// The first period in `text`; None where it names none, or one beyond the calendar. Weeks begin on Monday, quarters in
/// January, April, July and October. A month or quarter without a year is the last one that has begun.
pub fn named_period(text: &str, today: NaiveDate) -> Option<Period> {
    let text = text.to_lowercase().replace('’', "'");
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && !"-'".contains(c))
        .map(|word| word.trim_matches('-'))
        .map(|word| word.strip_suffix("'s").unwrap_or(word))
        .filter(|word| !word.is_empty())
        .collect();
    let question = Question { words, today };
    (0..question.words.len()).find_map(|at| question.period(at))
}

/// Words that stand between a preposition and its time and change little.
const FILLERS: [&str; 9] = [
    "the",
    "of",
    "start",
    "beginning",
    "end",
    "middle",
    "early",
    "mid",
    "late",
];
/// Prepositions behind which a month or a year is meant: "May" and "march" are words of their own, and a number of four
/// digits may count seats.
const PREPOSITIONS: [&str; 10] = [
    "in", "on", "during", "since", "after", "before", "until", "till", "from", "between",
];
/// What is between the two ends of a range.
const UNTIL: [&str; 5] = ["to", "and", "until", "till", "through"];

struct Question<'a> {
    words: Vec<&'a str>,
    today: NaiveDate,
}

/// A time that some words name.
struct Named {
    days: Range<NaiveDate>,
    words: usize,
    /// Whether the words themselves say of which year.
    has_year: bool,
}

impl Question<'_> {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).copied().unwrap_or_default()
    }

    /// The period whose first word of time is at `at`.
    fn period(&self, at: usize) -> Option<Period> {
        let preposition = self.preposition(at);
        let first = self.named(at, preposition.is_some(), None)?;
        let behind = at + first.words;
        let (start, end) = (first.days.start, first.days.end);
        let (since, until) = match preposition {
            Some("from" | "between") if UNTIL.contains(&self.word(behind)) => {
                match self.range(at, &first, behind + 1) {
                    Some(days) => (Some(days.start), Some(days.end)),
                    None => (Some(start), Some(end)),
                }
            }
            Some("from") if ["on", "onward", "onwards"].contains(&self.word(behind)) => {
                (Some(start), None)
            }
            Some("since") => (Some(start), None),
            Some("after") => (Some(end), None),
            Some("before") => (None, Some(start)),
            Some("until" | "till") => (None, Some(end)),
            _ => (Some(start), Some(end)),
        };
        Some(Period { since, until })
    }

    fn preposition(&self, at: usize) -> Option<&str> {
        let before = self.words.get(..at)?.iter().rev();
        let word = before.copied().find(|word| !FILLERS.contains(word))?;
        PREPOSITIONS.contains(&word).then_some(word)
    }

    /// From the time at `from` to the one at `to`; one that does not say its year is of the other's, or of a year beside
    /// it.
    fn range(&self, from: usize, first: &Named, to: usize) -> Option<Range<NaiveDate>> {
        let second = self.named(to, true, None)?;
        let in_years = |at: usize, years: [i32; 2]| {
            let named = years.map(|year| self.named(at, true, Some(year)));
            named.into_iter().flatten().map(|named| named.days)
        };
        let (year_of_first, year_of_second) = (first.days.start.year(), second.days.start.year());
        if second.has_year && !first.has_year {
            let starts = in_years(from, [year_of_second, year_of_second.saturating_sub(1)]);
            let mut ranges = starts.map(|days| days.start..second.days.end);
            return ranges.find(|range| range.start < second.days.start);
        }
        let ends = in_years(to, [year_of_first, year_of_first.saturating_add(1)]);
        let ends: Vec<_> = match second.has_year {
            true => vec![second.days.end],
            false => ends.map(|days| days.end).collect(),
        };
        let mut ranges = ends.into_iter().map(|end| first.days.start..end);
        ranges.find(|range| range.start < range.end)
    }

    /// The time that begins at `at`. `is_meant`: a word in front says that it is a time. `year`: of what does not say
    /// its year.
    fn named(&self, at: usize, is_meant: bool, year: Option<i32>) -> Option<Named> {
        let relative = self.relative(at);
        let relative = relative.map(|(days, words)| Named {
            days,
            words,
            has_year: true,
        });
        relative.or_else(|| self.calendar(at, is_meant, year))
    }

    /// Times that are told from today, and days by their numbers.
    fn relative(&self, at: usize) -> Option<(Range<NaiveDate>, usize)> {
        let today = self.today;
        let (first, second, third) = (self.word(at), self.word(at + 1), self.word(at + 2));
        match first {
            "today" => return Some((Unit::Day.around(today, 0)?, 1)),
            "yesterday" => return Some((Unit::Day.around(today, -1)?, 1)),
            "tomorrow" => return Some((Unit::Day.around(today, 1)?, 1)),
            _ => {}
        }
        if let Some(date) = iso_date(first) {
            return Some((Unit::Day.around(date, 0)?, 1));
        }
        let until_now =
            |unit: Unit, count: i32| Some(unit.moved(today, -count)?..today.succ_opt()?);
        match (first, Unit::named(second)) {
            ("past", Some(unit)) => return Some((until_now(unit, 1)?, 2)),
            ("this" | "current", Some(unit)) => return Some((unit.around(today, 0)?, 2)),
            ("last" | "previous", Some(unit)) => return Some((unit.around(today, -1)?, 2)),
            ("next" | "upcoming", Some(unit)) => return Some((unit.around(today, 1)?, 2)),
            _ => {}
        }
        if ["last", "past", "previous"].contains(&first)
            && let (Some(count), Some(unit)) = (count(second), Unit::counted(third))
        {
            return Some((until_now(unit, count)?, 3));
        }
        let ago = count(first).or_else(|| ["a", "an"].contains(&first).then_some(1));
        if let (Some(count), Some(unit), "ago") = (ago, Unit::counted(second), third) {
            return Some((unit.around(today, -count)?, 3));
        }
        None
    }

    /// Quarters, months, days of months and years by their names.
    fn calendar(&self, at: usize, is_meant: bool, year_if_none: Option<i32>) -> Option<Named> {
        let moved = match self.word(at) {
            "last" => Some(-1),
            "next" => Some(1),
            _ => None,
        };
        let name = at + usize::from(moved.is_some());
        let (first, second) = (self.word(name), self.word(name + 1));
        let of_year = |unit: Unit, year: i32, month: u32, words: usize| {
            Some(Named {
                days: unit.around(date(year, month)?, 0)?,
                words,
                has_year: true,
            })
        };
        if let Some(year) = year(first) {
            return match quarter(second) {
                Some(quarter) => of_year(Unit::Quarter, year, quarter * 3 - 2, 2),
                None if is_meant => of_year(Unit::Year, year, 1, 1),
                None => None,
            };
        }
        let (unit, month) = match (quarter(first), month(first)) {
            (Some(quarter), _) => (Unit::Quarter, quarter * 3 - 2),
            (None, month) => (Unit::Month, month?),
        };
        let mut next = name + 1;
        let day = (unit == Unit::Month)
            .then(|| day_of_month(second))
            .flatten();
        next += usize::from(day.is_some());
        if self.word(next) == "of" && year(self.word(next + 1)).is_some() {
            next += 1;
        }
        let named_year = year(self.word(next));
        next += usize::from(named_year.is_some());
        let is_meant = is_meant || moved.is_some() || named_year.is_some() || unit == Unit::Quarter;
        // A number that is no year may be one after all.
        let is_unclear = named_year.is_none() && self.word(next).parse::<u32>().is_ok();
        if !is_meant || is_unclear {
            return None;
        }
        let first_day = match (named_year.or(year_if_none), moved) {
            (Some(year), _) => date(year, month)?,
            (None, moved) => self.near(unit, month, moved)?,
        };
        let days = match day {
            Some(day) => Unit::Day.around(first_day.with_day(day)?, 0)?,
            None => unit.around(first_day, 0)?,
        };
        Some(Named {
            days,
            words: next - at,
            has_year: named_year.is_some(),
        })
    }

    /// The quarter or month that begins with `month`: the last one that has begun, the one before the present one, or
    /// the one after it.
    fn near(&self, unit: Unit, month: u32, moved: Option<i32>) -> Option<NaiveDate> {
        let present = unit.around(self.today, 0)?.start;
        let fits = |day: &NaiveDate| match moved {
            None => *day <= present,
            Some(-1) => *day < present,
            Some(_) => *day > present,
        };
        let this_year = self.today.year();
        let years = [
            this_year.checked_add(1)?,
            this_year,
            this_year.checked_sub(1)?,
        ];
        let mut days: Vec<NaiveDate> = years
            .into_iter()
            .filter_map(|year| date(year, month))
            .collect();
        if moved == Some(1) {
            days.reverse();
        }
        days.into_iter().find(fits)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    fn named(word: &str) -> Option<Self> {
        match word {
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            "quarter" => Some(Self::Quarter),
            "year" => Some(Self::Year),
            _ => None,
        }
    }

    /// Behind a number.
    fn counted(word: &str) -> Option<Self> {
        Self::named(word.strip_suffix('s').unwrap_or(word))
    }

    /// So many of them later.
    fn moved(self, day: NaiveDate, count: i32) -> Option<NaiveDate> {
        let months = |each: u32| {
            let months = Months::new(count.unsigned_abs().checked_mul(each)?);
            match count < 0 {
                true => day.checked_sub_months(months),
                false => day.checked_add_months(months),
            }
        };
        let days = |each: u64| {
            let days = Days::new(u64::from(count.unsigned_abs()) * each);
            match count < 0 {
                true => day.checked_sub_days(days),
                false => day.checked_add_days(days),
            }
        };
        match self {
            Self::Day => days(1),
            Self::Week => days(7),
            Self::Month => months(1),
            Self::Quarter => months(3),
            Self::Year => months(12),
        }
    }

    /// The one that `day` is in, moved by so many.
    fn around(self, day: NaiveDate, moved: i32) -> Option<Range<NaiveDate>> {
        let since_monday = Days::new(day.weekday().num_days_from_monday().into());
        let first = match self {
            Self::Day => day,
            Self::Week => day.checked_sub_days(since_monday)?,
            Self::Month => date(day.year(), day.month())?,
            Self::Quarter => date(day.year(), day.month0() / 3 * 3 + 1)?,
            Self::Year => date(day.year(), 1)?,
        };
        let start = self.moved(first, moved)?;
        Some(start..self.moved(start, 1)?)
    }
}

fn date(year: i32, month: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, 1)
}

const YEARS: Range<i32> = 1990..2100;

fn iso_date(word: &str) -> Option<NaiveDate> {
    let date = (word.len() == 10).then(|| NaiveDate::parse_from_str(word, "%Y-%m-%d").ok())??;
    YEARS.contains(&date.year()).then_some(date)
}

fn quarter(word: &str) -> Option<u32> {
    match word {
        "q1" => Some(1),
        "q2" => Some(2),
        "q3" => Some(3),
        "q4" => Some(4),
        _ => None,
    }
}

fn month(word: &str) -> Option<u32> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let is_short = word.len() == 3 || word == "sept";
    let is_month = |name: &str| name == word || is_short && name.starts_with(word);
    let mut numbers = NAMES.into_iter().zip(1..);
    numbers
        .find(|(name, _)| is_month(name))
        .map(|(_, number)| number)
}

/// "5" or "5th".
fn day_of_month(word: &str) -> Option<u32> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let ending = &word[digits.len()..];
    let day = digits.parse().ok()?;
    (["", "st", "nd", "rd", "th"].contains(&ending) && (1..=31).contains(&day)).then_some(day)
}

/// "2026" or "'26".
fn year(word: &str) -> Option<i32> {
    let year = match word.strip_prefix('\'') {
        Some(digits) if digits.len() == 2 => 2000 + digits.parse::<i32>().ok()?,
        _ if word.len() == 4 => word.parse().ok()?,
        _ => return None,
    };
    YEARS.contains(&year).then_some(year)
}

fn count(word: &str) -> Option<i32> {
    const NAMES: [&str; 12] = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    let mut named = NAMES.into_iter().zip(1..);
    let named = named.find(|(name, _)| *name == word);
    let number = named.map(|(_, number)| number);
    number.or_else(|| word.parse().ok().filter(|count| (1..1000).contains(count)))
}

#[cfg(test)]
mod tests {
    //! Goal: what a person calls a time is that time, and what only looks so is none.

    use super::*;

    fn day(text: &str) -> Option<NaiveDate> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    /// A Wednesday.
    fn period(text: &str) -> Option<Period> {
        named_period(text, day("2026-05-13").unwrap())
    }

    #[test]
    fn periods() {
        for (text, since, until) in [
            ("what did Acme say yesterday?", "2026-05-12", "2026-05-13"),
            ("calls today", "2026-05-13", "2026-05-14"),
            ("objections this week", "2026-05-11", "2026-05-18"),
            ("last week", "2026-05-04", "2026-05-11"),
            ("Last Month", "2026-04-01", "2026-05-01"),
            (
                "pricing in the last quarter, please",
                "2026-01-01",
                "2026-04-01",
            ),
            ("this quarter", "2026-04-01", "2026-07-01"),
            ("next year", "2027-01-01", "2028-01-01"),
            ("the past 30 days", "2026-04-13", "2026-05-14"),
            ("last three months", "2026-02-13", "2026-05-14"),
            ("two weeks ago", "2026-04-27", "2026-05-04"),
            ("3 days ago", "2026-05-10", "2026-05-11"),
            ("q3", "2025-07-01", "2025-10-01"),
            ("Q2 forecast", "2026-04-01", "2026-07-01"),
            ("Q4 2024 churn", "2024-10-01", "2025-01-01"),
            ("2024 Q4", "2024-10-01", "2025-01-01"),
            ("in March", "2026-03-01", "2026-04-01"),
            ("in Sept.", "2025-09-01", "2025-10-01"),
            ("August 2025", "2025-08-01", "2025-09-01"),
            ("during 2025", "2025-01-01", "2026-01-01"),
            ("on 2026-02-28", "2026-02-28", "2026-03-01"),
            ("since March", "2026-03-01", ""),
            ("after last month", "2026-05-01", ""),
            ("before 2026", "", "2026-01-01"),
            ("until yesterday", "", "2026-05-13"),
            ("between January and March", "2026-01-01", "2026-04-01"),
            ("from 2026-01-05 to 2026-01-09", "2026-01-05", "2026-01-10"),
            ("from Q1 through Q2 2026", "2026-01-01", "2026-07-01"),
            ("from Q1 to Q2 2024", "2024-01-01", "2024-07-01"),
            ("between January and March 2024", "2024-01-01", "2024-04-01"),
            ("from November to February 2025", "2024-11-01", "2025-03-01"),
            ("from March to July", "2026-03-01", "2026-08-01"),
            ("from November until February", "2025-11-01", "2026-03-01"),
            ("from January on", "2026-01-01", ""),
            ("objections from last quarter", "2026-01-01", "2026-04-01"),
            ("emails from January", "2026-01-01", "2026-02-01"),
            ("since March 5, 2025", "2025-03-05", ""),
            ("on March 5th", "2026-03-05", "2026-03-06"),
            ("in March of 2025", "2025-03-01", "2025-04-01"),
            ("Q4 '24", "2024-10-01", "2025-01-01"),
            ("the past week", "2026-05-06", "2026-05-14"),
            ("past year", "2025-05-13", "2026-05-14"),
            ("a month ago", "2026-04-01", "2026-05-01"),
            ("last May", "2025-05-01", "2025-06-01"),
            ("next March", "2027-03-01", "2027-04-01"),
            ("next Q1", "2027-01-01", "2027-04-01"),
            ("since the last quarter", "2026-01-01", ""),
            ("until the end of March", "", "2026-04-01"),
            ("since the start of March", "2026-03-01", ""),
            ("last quarter's objections", "2026-01-01", "2026-04-01"),
            ("discount of 2000 last quarter", "2026-01-01", "2026-04-01"),
        ] {
            let expected = Period {
                since: day(since),
                until: day(until),
            };
            assert_eq!(period(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_period() {
        for text in [
            "",
            "we may march on",
            "2025 seats",
            "last call",
            "the week",
            "this may affect pricing",
            "march forward",
            "last days",
            "Q4 24",
            "call 555-12-10",
            "past due invoices",
            "quarterly review",
            "99999 days ago",
            "last 5000 days",
            "2026-02-30",
            "version 1-2-3",
            "in 1066",
            "decline, marketing, seventh",
        ] {
            assert_eq!(period(text), None, "{text}");
        }
    }

    /// Goal: no day of the calendar lets a period overflow.
    #[test]
    fn borders_of_the_calendar() {
        for today in [NaiveDate::MIN, NaiveDate::MAX] {
            for text in [
                "yesterday",
                "tomorrow",
                "last 999 years",
                "next year",
                "this week",
                "999 years ago",
                "in may",
            ] {
                let _ = named_period(text, today);
            }
        }
    }
}
