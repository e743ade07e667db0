//! Reads a whole file into one buffer of exactly its size.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::Error;

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
    let at_path = |source| Error::ReadFile {
        path: path.to_owned(),
        source,
    };
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
    let too_large = || at_path(ErrorKind::OutOfMemory.into());
    let capacity = usize::try_from(length).map_err(|_| too_large())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(capacity).map_err(|_| too_large())?;
    file.take(length).read_to_end(&mut bytes).map_err(at_path)?;
    if bytes.len() != capacity {
        return Err(Error::model_file(path, "the file shrank while it was read"));
    }
    Ok(bytes)
}
