//! Reading times: `HH:MM:SS.mmm`, `MM:SS.mmm`, SRT commas and Teams' unpadded `0:0:5.1`.

/// More digits than this in one field are no time; it keeps the arithmetic far from overflow.
const FIELD_DIGITS_MAX: usize = 6;

/// Start and end of a cue in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CueTimes {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
}

/// Reads `start --> end settings`; a negative time is 0 and an end before the start is the start.
pub(super) fn parse_cue_times(line: &str) -> Option<CueTimes> {
    let (start, rest) = line.split_once("-->")?;
    let start_ms = parse_time(start.trim())?;
    let end_ms = parse_time(rest.split_whitespace().next()?)?;
    Some(CueTimes {
        start_ms,
        end_ms: end_ms.max(start_ms),
    })
}

/// Reads one time in milliseconds; a negative one is 0.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let (unsigned, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (clock, fraction) = match unsigned.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, parse_fraction(fraction)?),
        None => (unsigned, 0),
    };
    let mut seconds = 0;
    let mut field_count = 0;
    for field in clock.split(':') {
        // Hours may have passed 99; a sign inside a field is none.
        seconds = seconds * 60 + parse_digits(field)?;
        field_count += 1;
        if field_count > 3 {
            return None;
        }
    }
    let time_ms = (field_count >= 2).then_some(seconds * 1000 + fraction)?;
    Some(if negative { 0 } else { time_ms })
}

/// Milliseconds of the digits after the point: `1` is 100, `12` is 120, `1234` is 123.
fn parse_fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.bytes().chain(*b"000").take(3);
    Some(digits.fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn parse_digits(field: &str) -> Option<i64> {
    let is_number = !field.is_empty()
        && field.len() <= FIELD_DIGITS_MAX
        && field.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| field.parse().ok())?
}

#[cfg(test)]
#[path = "timestamps_tests.rs"]
mod tests;
