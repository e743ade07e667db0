//! How large the sheets of an old Excel workbook are (MS-XLS), from the records of its stream.

use std::io::{Cursor, Read};

use crate::spreadsheet::{damaged, span};
use crate::{DocumentError, Limits};

const EOF: u16 = 0x000a;
const BOUND_SHEET: u16 = 0x0085;
const MUL_RK: u16 = 0x00bd;
const DIMENSIONS: u16 = 0x0200;
/// What a sheet of the format can have at most; calamine asks for room for as many as a sheet claims.
const SHEET_CELLS_MAX: usize = 65_536 * 256;
/// Records that begin with the row and the column of a cell: Formula, RString, LabelSst, Number, Label, BoolErr, RK, and
/// several RKs in a row.
const CELLS: [u16; 8] = [
    0x0006, 0x00d6, 0x00fd, 0x0203, 0x0204, 0x0205, 0x027e, MUL_RK,
];

/// Fails where the sheets span more cells than the limit, however few of them have something in.
pub fn check_span(content: &[u8], limits: &Limits) -> Result<(), DocumentError> {
    let stream = stream(content)?;
    let sheets: Vec<usize> = records(&stream)
        .take_while(|(kind, _)| *kind != EOF)
        .filter(|(kind, _)| *kind == BOUND_SHEET)
        .filter_map(|(_, data)| Some(u32::from_le_bytes(*data.first_chunk()?) as usize))
        .collect();
    limits.check_pages(sheets.len())?;
    let mut cells = 0_usize;
    for start in sheets {
        let sheet = stream.get(start..).unwrap_or_default();
        cells = cells.saturating_add(span(places(sheet)));
        let claims = of_sheet(sheet).filter(|(kind, _)| *kind == DIMENSIONS);
        if claims
            .filter_map(|(_, data)| claimed(data))
            .any(|claim| claim > SHEET_CELLS_MAX)
        {
            cells = usize::MAX;
        }
        limits.check_cells(cells)?;
    }
    Ok(())
}

fn stream(content: &[u8]) -> Result<Vec<u8>, DocumentError> {
    let mut file = cfb::CompoundFile::open(Cursor::new(content)).map_err(|_| damaged())?;
    let name = ["/Workbook", "/Book"]
        .into_iter()
        .find(|name| file.is_stream(name));
    let stream = file
        .open_stream(name.ok_or_else(damaged)?)
        .map_err(|_| damaged())?;
    let mut bytes = Vec::new();
    // No longer than the file, whatever its length is said to be.
    let limit = content.len() as u64;
    stream
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|_| damaged())?;
    Ok(bytes)
}

/// Cells that a Dimensions record claims: from its first row to before its last, and up to its last column, since the first
/// one may be wrong (2.4.90).
fn claimed(data: &[u8]) -> Option<usize> {
    let long = |at: usize| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?));
    // Workbooks before BIFF8 have rows of 16 bits.
    let (first_row, last_row, last_column) = match data.len() {
        10 => (short(data, 0)?, short(data, 2)?, short(data, 6)?),
        _ => (long(0)?, long(4)?, short(data, 10)?),
    };
    let rows = last_row.saturating_sub(first_row) as usize;
    Some(rows.saturating_mul(last_column as usize))
}

/// The number of 16 bits that stands there.
fn short(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes).into())
}

/// The records of the sheet that `stream` begins with, and of what is embedded in it.
fn of_sheet(stream: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const BOF: u16 = 0x0809;
    let mut depth = 0_usize;
    records(stream).take_while(move |(kind, _)| {
        match *kind {
            BOF => depth += 1,
            EOF => depth = depth.saturating_sub(1),
            _ => {}
        }
        *kind != EOF || depth > 0
    })
}

/// First and last cells of the records of a sheet. What is embedded in it counts as well: its places are small.
fn places(sheet: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let cells = of_sheet(sheet).filter(|(kind, _)| CELLS.contains(kind));
    cells.flat_map(|(kind, data)| {
        let first = short(data, 2);
        let last = match kind {
            MUL_RK => data.len().checked_sub(2).and_then(|at| short(data, at)),
            _ => first,
        };
        let place = |column: Option<u32>| Some((short(data, 0)?, column?));
        [place(first), place(last)].into_iter().flatten()
    })
}

/// Kind and content of each record (2.1.4).
fn records(stream: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let (kind, behind) = rest.split_first_chunk()?;
        let (length, behind) = behind.split_first_chunk()?;
        let (data, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
        rest = behind;
        Some((u16::from_le_bytes(*kind), data))
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a workbook of a few bytes cannot claim a sheet of gigabytes.

    use std::io::Write;

    use super::*;

    fn record(kind: u16, data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u16).to_le_bytes();
        [&kind.to_le_bytes(), &length, data].concat()
    }

    fn number(row: u16, column: u16) -> Vec<u8> {
        let place = [row.to_le_bytes(), column.to_le_bytes()].concat();
        record(0x0203, &[&place[..], &[0; 10]].concat())
    }

    /// A workbook with one sheet of these records.
    fn workbook(cells: &[Vec<u8>]) -> Vec<u8> {
        let bof = record(0x0809, &[0; 16]);
        let bound = |start: u32| {
            record(
                BOUND_SHEET,
                &[&start.to_le_bytes()[..], &[0, 0, 1, 0, b'a']].concat(),
            )
        };
        let globals = [bof.clone(), bound(0), record(EOF, &[])].concat();
        let globals = [bof.clone(), bound(globals.len() as u32), record(EOF, &[])].concat();
        let stream = [globals, bof, cells.concat(), record(EOF, &[])].concat();
        let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        file.create_stream("/Workbook")
            .unwrap()
            .write_all(&stream)
            .unwrap();
        file.into_inner().into_inner()
    }

    #[test]
    fn spans() {
        let limits = Limits::default();
        let check = |cells: &[Vec<u8>]| check_span(&workbook(cells), &limits);
        assert_eq!(check(&[number(0, 0), number(999, 200)]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        let too_large = Err(DocumentError::TooLarge {
            what: "cells",
            limit: limits.cells,
        });
        assert_eq!(check(&[number(0, 0), number(u16::MAX, 255)]), too_large);
        // A chart within the sheet does not end it.
        let chart = [record(0x0809, &[0; 16]), record(EOF, &[])].concat();
        assert_eq!(
            check(&[number(0, 0), chart, number(60_000, 255)]),
            too_large
        );
        // Only what no sheet can have is refused of what is merely claimed.
        let dimensions = |rows: u32, columns: u16| {
            let columns = [0, columns, 0].map(u16::to_le_bytes).concat();
            record(
                DIMENSIONS,
                &[&[0; 4][..], &rows.to_le_bytes(), &columns].concat(),
            )
        };
        assert_eq!(check(&[dimensions(65_536, 256)]), Ok(()));
        assert_eq!(check(&[dimensions(u32::MAX, 256)]), too_large);
        let many = [0_u16, 0].map(u16::to_le_bytes).concat();
        let many = record(
            MUL_RK,
            &[&many[..], &[0; 6], &u16::MAX.to_le_bytes()].concat(),
        );
        assert_eq!(check(&[many, number(100, 0)]), too_large);
        assert!(matches!(
            check_span(b"no file", &limits),
            Err(DocumentError::Damaged { .. })
        ));
    }
}
