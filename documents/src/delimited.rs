//! Tables in plain text (RFC 4180), with whatever character separates their fields.

use crate::markdown::Markdown;
use crate::{DocumentError, encoding};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Lines by which the delimiter is chosen.
const SAMPLE_LINES: usize = 20;

pub fn read(content: &[u8]) -> Result<String, DocumentError> {
    let text = encoding::decode(content)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(&text))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|_| DocumentError::damaged("a field is not text"))?;
        rows.push(record.iter().map(str::to_owned).collect());
    }
    let mut markdown = Markdown::default();
    markdown.table(&rows);
    Ok(markdown.into_text())
}

/// The one that most lines have, and equally often.
fn delimiter(text: &str) -> u8 {
    let lines: Vec<&str> = text.lines().take(SAMPLE_LINES).collect();
    let score = |delimiter: &u8| {
        let counts: Vec<usize> = lines
            .iter()
            .map(|line| line.bytes().filter(|byte| byte == delimiter).count())
            .collect();
        let first = counts.first().copied().unwrap_or(0);
        let equal = counts
            .iter()
            .filter(|count| **count == first && first > 0)
            .count();
        (equal, first)
    };
    DELIMITERS
        .into_iter()
        .rev()
        .max_by_key(|delimiter| score(delimiter))
        .unwrap_or(b',')
}
