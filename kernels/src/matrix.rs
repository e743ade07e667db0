//! Weight matrices in the format of their file: they are unpacked only where they are used, so that no
//! weight is in memory twice.

use crate::Format;

/// Rows × columns weights; a row is a whole number of blocks of its format.
#[derive(Clone)]
pub struct Matrix {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    /// None when the sizes do not fit each other or the format.
    pub fn new(format: Format, rows: usize, columns: usize, bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() == format.matrix_bytes(rows, columns)?).then_some(Self {
            format,
            rows,
            columns,
            bytes,
        })
    }

    /// A matrix of f32 values, row by row; None when their number is wrong.
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Option<Self> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self::new(Format::F32, rows, columns, bytes.collect())
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
