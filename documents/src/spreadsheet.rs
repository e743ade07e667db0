//! Spreadsheets: each sheet is a heading and tables, which empty rows separate.

use std::io::Cursor;

use calamine::{Data, Ods, OdsError, Range, Reader, Xls, XlsError, Xlsx, XlsxError};

use crate::markdown::Markdown;
use crate::{DocumentError, DocumentFormat, Limits};

pub fn read(
    content: &[u8],
    format: DocumentFormat,
    limits: &Limits,
) -> Result<String, DocumentError> {
    let file = Cursor::new(content);
    let sheets = match format {
        DocumentFormat::Xls => match Xls::new(file) {
            Ok(mut book) => book.worksheets(),
            Err(XlsError::Password) => return Err(DocumentError::Encrypted),
            Err(_) => return Err(damaged()),
        },
        DocumentFormat::Ods => ods(file)?,
        _ => match Xlsx::new(file) {
            Ok(mut book) => book.worksheets(),
            Err(XlsxError::Password) => return Err(DocumentError::Encrypted),
            Err(_) => return Err(damaged()),
        },
    };
    let cells = sheets
        .iter()
        .map(|(_, range)| range.get_size().0 * range.get_size().1);
    limits.check_cells(cells.sum())?;
    let mut markdown = Markdown::default();
    for (name, range) in &sheets {
        markdown.heading(2, name);
        write(range, &mut markdown);
    }
    Ok(markdown.into_text())
}

fn ods(file: Cursor<&[u8]>) -> Result<Vec<(String, Range<Data>)>, DocumentError> {
    match Ods::new(file) {
        Ok(mut book) => Ok(book.worksheets()),
        Err(OdsError::Password) => Err(DocumentError::Encrypted),
        Err(_) => Err(damaged()),
    }
}

fn damaged() -> DocumentError {
    DocumentError::damaged("its sheets cannot be read")
}

fn write(range: &Range<Data>, markdown: &mut Markdown) {
    let mut table: Vec<Vec<String>> = Vec::new();
    for row in range.rows() {
        let mut cells: Vec<String> = row.iter().map(cell).collect();
        while cells.last().is_some_and(String::is_empty) {
            cells.pop();
        }
        if cells.is_empty() {
            markdown.table(&table);
            table.clear();
        } else {
            table.push(cells);
        }
    }
    markdown.table(&table);
}

fn cell(data: &Data) -> String {
    match data {
        Data::Empty => String::new(),
        Data::DateTime(time) => match time.as_datetime() {
            Some(time) => time.to_string().trim_end_matches(" 00:00:00").to_owned(),
            None => time.to_string(),
        },
        // A whole number is stored as a fraction.
        Data::Float(value) => value.to_string(),
        data => data.to_string(),
    }
}
