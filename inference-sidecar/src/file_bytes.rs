//! Files of models: small ones whole, large ones part by part, so that a tensor is in memory alone.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The head grows by at least so much, so that its fields are not read one by one.
const HEAD_STEP: usize = 1 << 20;

/// The content of a file whose head is in memory and whose other parts are read where they are
/// needed. Its errors are `Error::ReadFile` and `Error::ModelFile` with the path of the file.
pub struct FileBytes {
    path: PathBuf,
    length: usize,
    head: Vec<u8>,
    /// None when the head is all there is.
    file: Option<File>,
}

impl FileBytes {
    /// The file at `path`, of which nothing is read yet; fails when it is empty or no regular file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (file, length) = open_regular(path)?;
        Ok(Self {
            path: path.to_owned(),
            length,
            head: Vec::new(),
            file: Some(file),
        })
    }

    /// The content `bytes`; `path` only names it in errors.
    pub fn in_memory(bytes: Vec<u8>, path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            length: bytes.len(),
            head: bytes,
            file: None,
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes from the start that are in memory.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The bytes of `range`, which lies in the file; all before it come into memory with them.
    pub fn read_head(&mut self, range: Range<usize>) -> Result<&[u8], Error> {
        let known = self.head.len();
        if range.end > known {
            let end = range
                .end
                .max(known.saturating_add(HEAD_STEP))
                .min(self.length);
            let more = self.read_own(known..end)?;
            self.head.extend(more);
        }
        Ok(&self.head[range])
    }

    /// The bytes of `range`, which lies in the file.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u8>, Error> {
        match self.head.get(range.clone()) {
            Some(known) => Ok(known.to_vec()),
            None => self.read_own(range),
        }
    }

    /// Fills `bytes` with what begins at `position`; all of it lies in the file. Threads may do so at once.
    pub fn read_at(&self, position: usize, bytes: &mut [u8]) -> Result<(), Error> {
        if let Some(known) = self.head.get(position..position + bytes.len()) {
            bytes.copy_from_slice(known);
            return Ok(());
        }
        let result = match &self.file {
            Some(file) => file.read_exact_at(bytes, position as u64),
            None => Err(ErrorKind::UnexpectedEof.into()),
        };
        result.map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => shrank(&self.path),
            _ => read_error(&self.path, source),
        })
    }

    fn read_own(&self, range: Range<usize>) -> Result<Vec<u8>, Error> {
        match &self.file {
            Some(file) => read_range(file, range, &self.path),
            None => Err(read_error(&self.path, ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// The bytes of the file at `path`, which is to have `bytes_max` bytes at most.
pub fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > bytes_max => {
            let reason = format!("it has more than {bytes_max} bytes");
            Err(Error::model_file(path, reason))
        }
        _ => read_whole(path),
    }
}

/// The bytes of the file at `path`; fails when it is empty, no regular file, or changes its size
/// while it is read.
pub fn read_whole(path: &Path) -> Result<Vec<u8>, Error> {
    let (file, length) = open_regular(path)?;
    read_range(&file, 0..length, path)
}

fn open_regular(path: &Path) -> Result<(File, usize), Error> {
    let at_path = |source| read_error(path, source);
    // Asked before opening, because opening a pipe waits for its writer.
    let is_file = std::fs::metadata(path).map_err(at_path)?.is_file();
    if !is_file {
        return Err(Error::model_file(path, "it is not a regular file"));
    }
    let file = File::open(path).map_err(at_path)?;
    let length = file.metadata().map_err(at_path)?.len();
    if length == 0 {
        return Err(Error::model_file(path, "the file is empty"));
    }
    let length = usize::try_from(length).map_err(|_| at_path(ErrorKind::OutOfMemory.into()))?;
    Ok((file, length))
}

fn read_range(mut file: &File, range: Range<usize>, path: &Path) -> Result<Vec<u8>, Error> {
    let at_path = |source| read_error(path, source);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(range.len())
        .map_err(|_| at_path(ErrorKind::OutOfMemory.into()))?;
    file.seek(SeekFrom::Start(range.start as u64))
        .map_err(at_path)?;
    file.take(range.len() as u64)
        .read_to_end(&mut bytes)
        .map_err(at_path)?;
    match bytes.len() == range.len() {
        true => Ok(bytes),
        false => Err(shrank(path)),
    }
}

fn shrank(path: &Path) -> Error {
    Error::model_file(path, "the file shrank while it was read")
}

fn read_error(path: &Path, source: io::Error) -> Error {
    Error::ReadFile {
        path: path.to_owned(),
        source,
    }
}
