//! The processors that the server may run on.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// One more than the highest number.
const CPUS_MAX: usize = 1024;

/// Numbers of processors, in ascending order, in the notation of Linux: "0-3,8".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// At least one number, each once.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }

    /// None for what is no list, or has numbers from 1,024 on.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last >= CPUS_MAX {
                return None;
            }
            numbers.extend(first..=last);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Some(Self(numbers))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        let text = runs.map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            alone => format!("{}", alone[0]),
        });
        f.write_str(&text.collect::<Vec<_>>().join(","))
    }
}

impl<'de> Deserialize<'de> for CpuList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "expected numbers of processors below 1024, as \"0-3,8\"";
        Self::parse(&text).ok_or_else(|| de::Error::custom(expected))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: lists mean what they mean in Linux, and nothing else is one.

    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (text, numbers, written) in [
            ("0", vec![0], "0"),
            ("2-4,0", vec![0, 2, 3, 4], "0,2-4"),
            ("7,7,6-7", vec![6, 7], "6-7"),
            ("1023", vec![1023], "1023"),
        ] {
            let list = CpuList::parse(text).unwrap();
            assert_eq!(
                (list.numbers(), list.to_string()),
                (&*numbers, written.into())
            );
        }
        for text in [
            "", ",", "a", "3-1", "1-", "-1", "0,,2", "1024", "0-1024", "0 1",
        ] {
            assert_eq!(CpuList::parse(text), None, "{text}");
        }
    }
}
