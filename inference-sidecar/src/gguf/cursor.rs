//! Reads little-endian numbers and texts from a buffer, each within its bounds.

use std::ops::Range;

/// A position in a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at `position`, which may lie behind the end.
    pub(super) fn at(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes until the end of the file.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// Goes over `count` bytes and returns where they are.
    pub(super) fn skip(&mut self, count: usize) -> Result<Range<usize>, String> {
        if count > self.remaining() {
            return Err(format!(
                "the header goes on after the end of the file, {} bytes are missing",
                count - self.remaining()
            ));
        }
        let start = self.position;
        self.position += count;
        Ok(start..self.position)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let range = self.skip(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// The number of things that follow, each of which takes at least `bytes_min` bytes (above 0).
    pub(super) fn count(&mut self, what: &str, bytes_min: usize) -> Result<usize, String> {
        let count = self.u64()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.remaining() / bytes_min)
            .ok_or_else(|| format!("{count} {what} do not fit into the file"))
    }

    /// Where the bytes of a text are, which may be no UTF-8.
    pub(super) fn text(&mut self) -> Result<Range<usize>, String> {
        let length = self.count("bytes of a text", 1)?;
        self.skip(length)
    }

    /// A text that names something.
    pub(super) fn name(&mut self, bytes_max: usize) -> Result<&'a str, String> {
        let range = self.text()?;
        if range.len() > bytes_max {
            return Err(format!("a name has {} bytes", range.len()));
        }
        str::from_utf8(&self.bytes[range]).map_err(|_| "a name is not UTF-8".into())
    }
}
