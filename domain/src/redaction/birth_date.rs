//! Dates of birth: a date behind words that say so.

use std::sync::LazyLock;

use regex::Regex;

use super::{Finding, PiiKind, add, labels};

/// Characters between such words and the date.
const REACH: usize = 40;

static DATE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)\b(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:[0-9]{4}|[0-9]{2})",
        r"|(?:[0-9]{1,2}(?:st|nd|rd|th|\.)? (?:of )?)?",
        r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?",
        r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?(?: [0-9]{1,2}(?:st|nd|rd|th)?)?(?:,? [0-9]{4})?)\b"
    ))
    .expect("is a pattern")
});

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:born|birth ?da(?:y|te)|date of birth|d\.?o\.?b\b|geboren|né\(?e?\)? le|nacid[oa])[^0-9\n]*$")
        .expect("is a pattern")
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let dates = DATE.find_iter(text).filter(|date| {
        let has_digits = date.as_str().bytes().any(|byte| byte.is_ascii_digit());
        has_digits && LABEL.is_match(labels::before(text, date.start(), REACH))
    });
    add(found, PiiKind::BirthDate, dates.map(|date| date.range()));
}
