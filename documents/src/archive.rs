//! Files in a ZIP archive, within a bound for all that is unpacked.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use crate::{DocumentError, Limits};

pub struct Archive<'a> {
    files: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    rest: usize,
    limit: usize,
}

impl<'a> Archive<'a> {
    pub fn open(content: &'a [u8], limits: &Limits) -> Result<Self, DocumentError> {
        Ok(Self {
            files: ZipArchive::new(Cursor::new(content)).map_err(archive_error)?,
            rest: limits.expanded_bytes,
            limit: limits.expanded_bytes,
        })
    }

    /// A file's text; None where there is no such file.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, DocumentError> {
        let file = match self.files.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(archive_error(error)),
        };
        // What the archive says of its size is not to be trusted.
        let mut bytes = Vec::new();
        file.take(self.rest as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|_| DocumentError::damaged("its archive cannot be read"))?;
        self.rest = self
            .rest
            .checked_sub(bytes.len())
            .ok_or(DocumentError::TooLarge {
                what: "bytes unpacked",
                limit: self.limit,
            })?;
        crate::encoding::decode(&bytes).map(Some)
    }

    /// As `text`, of a file that must be there.
    pub fn needed_text(&mut self, name: &str) -> Result<String, DocumentError> {
        let text = self.text(name)?;
        text.ok_or_else(|| DocumentError::damaged("a part of it is missing"))
    }
}

fn archive_error(error: ZipError) -> DocumentError {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) | ZipError::InvalidPassword => {
            DocumentError::Encrypted
        }
        _ => DocumentError::damaged("its archive cannot be read"),
    }
}
