//! Weight matrices in the format of their file, in memory or not read yet: they are unpacked only where
//! they are used, so that no weight is in memory twice.

use std::ops::Range;

use crate::error::Error;
use crate::file_bytes::{FileBytes, FilePart};
use crate::models::Format;

/// Rows × columns weights; a row is a whole number of blocks of its format.
#[derive(Clone)]
pub struct Matrix {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    bytes: FilePart,
}

/// As [`Matrix`], not read yet.
pub struct UnreadMatrix<'a> {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    file: &'a FileBytes,
    place: Range<usize>,
}

impl<'a> UnreadMatrix<'a> {
    /// At `place`, which lies in the file; None when the sizes do not fit each other or the format.
    pub fn new(
        format: Format,
        rows: usize,
        columns: usize,
        file: &'a FileBytes,
        place: Range<usize>,
    ) -> Option<Self> {
        (place.len() == bytes_of(format, rows, columns)?).then_some(Self {
            format,
            rows,
            columns,
            file,
            place,
        })
    }

    /// All of it.
    pub fn read(&self) -> Result<Matrix, Error> {
        Ok(Matrix {
            format: self.format,
            rows: self.rows,
            columns: self.columns,
            bytes: self.file.read(self.place.clone())?,
        })
    }

    /// The bytes of some of the rows, in place of what `bytes` holds.
    pub fn read_rows(&self, rows: Range<usize>, bytes: &mut Vec<u8>) -> Result<(), Error> {
        assert!(rows.end <= self.rows);
        let row = self.place.len() / self.rows;
        bytes.resize(rows.len() * row, 0);
        self.file
            .read_at(self.place.start + rows.start * row, bytes)
    }
}

impl Matrix {
    /// None when the sizes do not fit each other or the format.
    pub fn new(format: Format, rows: usize, columns: usize, bytes: FilePart) -> Option<Self> {
        (bytes.len() == bytes_of(format, rows, columns)?).then_some(Self {
            format,
            rows,
            columns,
            bytes,
        })
    }

    /// A matrix of f32 values, row by row; None when their number is wrong.
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Option<Self> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self::new(Format::F32, rows, columns, bytes.into())
    }

    /// All bytes, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of one row.
    pub fn row(&self, index: usize) -> &[u8] {
        let bytes = self.bytes.len() / self.rows;
        &self.bytes[index * bytes..][..bytes]
    }

    /// The values of one row; `values` has as many entries as there are columns.
    pub fn read_row(&self, index: usize, values: &mut [f32]) {
        self.format.unpack(self.row(index), values);
    }

    /// All values, row by row: only for what is small.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        self.format.unpack(&self.bytes, &mut values);
        values
    }
}

/// None for sizes that do not fit the format, and without rows.
fn bytes_of(format: Format, rows: usize, columns: usize) -> Option<usize> {
    let bytes = format.row_bytes(columns)?.checked_mul(rows)?;
    (rows > 0).then_some(bytes)
}
