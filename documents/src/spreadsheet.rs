//! Spreadsheets: each sheet is a heading and tables, which empty rows separate.

use std::io::Cursor;

use calamine::{
    Cell, Data, DataType, Ods, OdsError, Range, Reader, Xls, XlsError, Xlsx, XlsxError,
};
use roxmltree::Node;

use crate::archive::Archive;
use crate::markdown::Markdown;
use crate::{DocumentError, DocumentFormat, Limits, opendocument, workbook_stream, xml};

type Sheet = (String, Range<Data>);

pub fn read(
    content: &[u8],
    format: DocumentFormat,
    limits: &Limits,
) -> Result<String, DocumentError> {
    let sheets = match format {
        DocumentFormat::Xls => xls(content, limits)?,
        DocumentFormat::Ods => ods(content, limits)?,
        _ => xlsx(content, limits)?,
    };
    let cells = sheets.iter().fold(0_usize, |cells, (_, range)| {
        let (rows, columns) = range.get_size();
        cells.saturating_add(rows.saturating_mul(columns))
    });
    limits.check_cells(cells)?;
    let mut markdown = Markdown::default();
    for (name, range) in &sheets {
        markdown.heading(2, name);
        write(range, &mut markdown);
    }
    Ok(markdown.into_text())
}

/// calamine 0.38 has room for each cell between the first and the last of a sheet, so both are asked for before.
fn xls(content: &[u8], limits: &Limits) -> Result<Vec<Sheet>, DocumentError> {
    workbook_stream::check_span(content, limits)?;
    match Xls::new(Cursor::new(content)) {
        Ok(mut book) => Ok(book.worksheets()),
        Err(XlsError::Password) => Err(DocumentError::Encrypted),
        Err(_) => Err(damaged()),
    }
}

/// Cell by cell, for the same reason. A sheet that cannot be read is left out.
fn xlsx(content: &[u8], limits: &Limits) -> Result<Vec<Sheet>, DocumentError> {
    let mut book = match Xlsx::new(Cursor::new(content)) {
        Ok(book) => book,
        Err(XlsxError::Password) => return Err(DocumentError::Encrypted),
        Err(_) => return Err(damaged()),
    };
    let (mut sheets, mut spanned, mut text_bytes) = (Vec::new(), 0_usize, 0_usize);
    for name in book.sheet_names() {
        let Ok(mut reader) = book.worksheet_cells_reader(&name) else {
            continue;
        };
        let mut cells: Vec<Cell<Data>> = Vec::new();
        let is_read = loop {
            match reader.next_cell() {
                Ok(Some(cell)) if cell.get_value().is_empty() => {}
                Ok(Some(cell)) => {
                    // Many cells may share a long text.
                    text_bytes += cell.get_value().get_string().map_or(0, str::len);
                    limits.check_text(text_bytes)?;
                    cells.push(Cell::new(
                        cell.get_position(),
                        cell.get_value().clone().into(),
                    ));
                    limits.check_cells(cells.len())?;
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if is_read {
            let places = cells.iter().map(Cell::get_position);
            spanned = spanned.saturating_add(span(places));
            limits.check_cells(spanned)?;
            sheets.push((name, Range::from_sparse(cells)));
        }
    }
    Ok(sheets)
}

/// Cells from the first row and column to the last.
pub fn span(places: impl Iterator<Item = (u32, u32)>) -> usize {
    let outer = places.fold(None, |outer, (row, column)| {
        let (rows, columns) = outer.unwrap_or(((row, row), (column, column)));
        let widened = |(first, last): (u32, u32), at: u32| (first.min(at), last.max(at));
        Some((widened(rows, row), widened(columns, column)))
    });
    let length = |(first, last): (u32, u32)| (last - first) as usize + 1;
    outer.map_or(0, |(rows, columns)| {
        length(rows).saturating_mul(length(columns))
    })
}

fn ods(content: &[u8], limits: &Limits) -> Result<Vec<Sheet>, DocumentError> {
    // calamine 0.38 reads on for ever where a table does not end.
    let mut archive = Archive::open(content, limits)?;
    opendocument::check_not_encrypted(&mut archive)?;
    let text = archive.text("content.xml")?.unwrap_or_default();
    let document = xml::parse(&text)?;
    let tables = document
        .descendants()
        .filter(|node| xml::is(*node, "table"));
    // It fills repeated rows and cells in.
    limits.check_cells(tables.map(filled_cells).fold(0, usize::saturating_add))?;
    match Ods::new(Cursor::new(content)) {
        Ok(mut book) => Ok(book.worksheets()),
        Err(OdsError::Password) => Err(DocumentError::Encrypted),
        Err(_) => Err(damaged()),
    }
}

/// Cells of a table up to the last row and column with something in, repeated ones each time.
fn filled_cells(table: Node<'_, '_>) -> usize {
    let repeated = |node, name| {
        let count = xml::attribute(node, name).and_then(|count| count.parse().ok());
        count.unwrap_or(1_usize)
    };
    let is_filled = |cell: Node<'_, '_>| {
        let mut attributes = cell.attributes();
        cell.has_children()
            || attributes.any(|attribute| {
                attribute.name().ends_with("value") || attribute.name() == "formula"
            })
    };
    let (mut rows, mut filled_rows, mut width) = (0_usize, 0, 0);
    for row in table
        .descendants()
        .filter(|node| xml::is(*node, "table-row"))
    {
        let (mut columns, mut filled_columns) = (0_usize, 0);
        for cell in row.children().filter(Node::is_element) {
            columns = columns.saturating_add(repeated(cell, "number-columns-repeated"));
            if is_filled(cell) {
                filled_columns = columns;
            }
        }
        rows = rows.saturating_add(repeated(row, "number-rows-repeated"));
        if filled_columns > 0 {
            filled_rows = rows;
            width = width.max(filled_columns);
        }
    }
    filled_rows.saturating_mul(width)
}

pub fn damaged() -> DocumentError {
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
