//! What a document may cost.

use crate::DocumentError;

/// Bounds for one document.
#[derive(Debug, Clone)]
pub struct Limits {
    pub file_bytes: usize,
    /// Of all that is read of an archive, unpacked.
    pub expanded_bytes: usize,
    /// Of the Markdown.
    pub text_bytes: usize,
    pub pages: usize,
    /// Of a spreadsheet.
    pub cells: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            expanded_bytes: 256 << 20,
            text_bytes: 32 << 20,
            pages: 5_000,
            cells: 2_000_000,
        }
    }
}

impl Limits {
    pub(crate) fn check_file(&self, bytes: usize) -> Result<(), DocumentError> {
        check("bytes of the file", bytes, self.file_bytes)
    }

    pub(crate) fn check_text(&self, bytes: usize) -> Result<(), DocumentError> {
        check("bytes of text", bytes, self.text_bytes)
    }

    pub(crate) fn check_pages(&self, pages: usize) -> Result<(), DocumentError> {
        check("pages", pages, self.pages)
    }

    pub(crate) fn check_cells(&self, cells: usize) -> Result<(), DocumentError> {
        check("cells", cells, self.cells)
    }
}

fn check(what: &'static str, found: usize, limit: usize) -> Result<(), DocumentError> {
    match found > limit {
        true => Err(DocumentError::TooLarge { what, limit }),
        false => Ok(()),
    }
}
