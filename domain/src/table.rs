//! Records of a CSV file (RFC 4180) whose first line names the fields: what a CRM exports.

use serde_json::{Map, Value};

use crate::error::TableError;

/// The records in their order; an empty field is left out. Every record has as many fields as the first line.
pub fn parse_records(text: &str) -> Result<Vec<Map<String, Value>>, TableError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().map_err(malformed)?.clone();
    if names.iter().all(str::is_empty) {
        return Err(TableError::NoHeader);
    }
    let record = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(malformed)?;
        let fields = names.iter().zip(record.iter());
        Ok(fields
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect())
    };
    reader.records().map(record).collect()
}

fn malformed(error: csv::Error) -> TableError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => TableError::FieldCount {
            line,
            expected: *expected_len,
            found: *len,
        },
        _ => TableError::Malformed { line },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quotes_breaks_and_empty_fields() {
        let text =
            "\u{feff}Id,Name,Note\r\n1,\"Acme, Inc.\",\"two\nlines, \"\"quoted\"\"\"\r\n2,,\n";
        let records = parse_records(text).expect("is a table");
        assert_eq!(
            json!(records),
            json!([{"Id": "1", "Name": "Acme, Inc.", "Note": "two\nlines, \"quoted\""}, {"Id": "2"}])
        );
    }

    #[test]
    fn what_is_no_table() {
        assert_eq!(parse_records(""), Err(TableError::NoHeader));
        assert_eq!(
            parse_records("a,b\n1,2\n1,2,3\n"),
            Err(TableError::FieldCount {
                line: 3,
                expected: 2,
                found: 3
            })
        );
        assert_eq!(parse_records("a,b\n"), Ok(Vec::new()));
    }
}
