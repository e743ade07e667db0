//! Reads little-endian numbers and texts from the head of a file, each within its bounds.

use std::ops::Range;

use crate::file_bytes::FileBytes;

/// Far above the largest known headers (some 10 MiB, most of it vocabulary): it bounds what a damaged
/// file brings into memory.
const HEADER_BYTES_MAX: usize = 1 << 28;

/// What a cursor reads from.
pub(super) trait Source {
    /// Bytes of the whole file.
    fn length(&self) -> usize;

    /// The bytes of `range`, which lies in the file; the error is a reason for a person.
    fn read(&mut self, range: Range<usize>) -> Result<&[u8], String>;
}

/// A position in a file.
pub(super) struct Cursor<S> {
    source: S,
    position: usize,
}

impl Source for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn read(&mut self, range: Range<usize>) -> Result<&[u8], String> {
        let bytes = self.get(range);
        bytes.ok_or_else(|| "the header is not complete".into())
    }
}

impl Source for &mut FileBytes {
    fn length(&self) -> usize {
        FileBytes::length(self)
    }

    fn read(&mut self, range: Range<usize>) -> Result<&[u8], String> {
        if range.end > HEADER_BYTES_MAX {
            return Err(format!("the header has more than {HEADER_BYTES_MAX} bytes"));
        }
        self.read_head(range).map_err(|error| error.to_string())
    }
}

impl<S: Source> Cursor<S> {
    /// A cursor at `position`, which may lie behind the end.
    pub(super) fn at(source: S, position: usize) -> Self {
        Self { source, position }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes until the end of the file.
    pub(super) fn remaining(&self) -> usize {
        self.source.length().saturating_sub(self.position)
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

    /// Makes sure that all until here is in memory.
    pub(super) fn finish(mut self) -> Result<usize, String> {
        self.source.read(self.position..self.position)?;
        Ok(self.position)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let range = self.skip(N)?;
        let mut array = [0; N];
        array.copy_from_slice(self.source.read(range)?);
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
    pub(super) fn name(&mut self, bytes_max: usize) -> Result<Box<str>, String> {
        let range = self.text()?;
        if range.len() > bytes_max {
            return Err(format!("a name has {} bytes", range.len()));
        }
        let name = str::from_utf8(self.source.read(range)?);
        name.map(Box::from)
            .map_err(|_| "a name is not UTF-8".into())
    }
}
