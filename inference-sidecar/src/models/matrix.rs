//! Weight matrices of a file that are not read yet.

use std::ops::Range;

use kernels::{Arena, DenseMatrix, Format, Matrix, PackedMatrix};

use crate::error::Error;
use crate::file_bytes::FileBytes;

/// Rows × columns weights of a file; a row is a whole number of blocks of its format.
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
        (place.len() == format.matrix_bytes(rows, columns)?).then_some(Self {
            format,
            rows,
            columns,
            file,
            place,
        })
    }

    /// All of it, as it is.
    pub fn read(&self) -> Result<Matrix, Error> {
        let bytes = self.file.read(self.place.clone())?;
        let matrix = Matrix::new(self.format, self.rows, self.columns, bytes);
        Ok(matrix.expect("sizes have been checked"))
    }

    /// All of it in the order of the kernels, tile by tile, so that no weight is in memory twice; None for
    /// formats that are not packed.
    pub fn pack(&self, arena: &mut Arena) -> Result<Option<PackedMatrix>, Error> {
        let Self {
            format,
            rows,
            columns,
            ..
        } = *self;
        PackedMatrix::pack(arena, format, rows, columns, |rows, bytes| {
            self.read_rows(rows, bytes)
        })
    }

    /// As `pack`, in its own format or, if that is a quantised one, in f32.
    pub fn pack_dense(&self, arena: &mut Arena) -> Result<DenseMatrix, Error> {
        let Self {
            format,
            rows,
            columns,
            ..
        } = *self;
        DenseMatrix::pack(arena, format, rows, columns, |rows, bytes| {
            self.read_rows(rows, bytes)
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
