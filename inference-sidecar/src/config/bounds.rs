//! Readers of single values that refuse what is out of bounds, so that the error names the line.

use serde::de::{Deserialize, Deserializer, Error};

/// A number from `MIN` to `MAX`, both of which fit `T`.
pub(super) fn within<'de, T, const MIN: i64, const MAX: i64, D>(reader: D) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    let refused = || D::Error::custom(format!("expected a number from {MIN} to {MAX}"));
    let value = i64::deserialize(reader)?;
    if !(MIN..=MAX).contains(&value) {
        return Err(refused());
    }
    T::try_from(value).map_err(|_| refused())
}

/// As [`within`], for a key that may be left out.
pub(super) fn within_or_none<'de, T, const MIN: i64, const MAX: i64, D>(
    reader: D,
) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i64>,
    D: Deserializer<'de>,
{
    within::<T, MIN, MAX, D>(reader).map(Some)
}

/// The name of a model: it stands in requests, logs and metrics.
pub(super) fn name<'de, D: Deserializer<'de>>(reader: D) -> Result<String, D::Error> {
    let name = String::deserialize(reader)?;
    if is_name(&name) {
        Ok(name)
    } else {
        Err(D::Error::custom(
            "expected 1 to 128 letters, digits, \".\", \"_\" or \"-\"",
        ))
    }
}

/// A SHA-256 as hex digits; lower case afterwards.
pub(super) fn sha256<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<String>, D::Error> {
    let digits = String::deserialize(reader)?;
    if is_sha256(&digits) {
        Ok(Some(digits.to_ascii_lowercase()))
    } else {
        Err(D::Error::custom("expected 64 hex digits"))
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=128).contains(&name.len()) && name.chars().all(is_plain)
}

pub(super) fn is_sha256(digits: &str) -> bool {
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
