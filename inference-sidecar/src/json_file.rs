//! The small JSON files beside a model's weights.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::file_bytes::read_at_most;

/// Room for the largest known `tokenizer.json` several times over.
const BYTES_MAX: u64 = 128 << 20;

/// The content of the JSON file at `path`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = read_at_most(path, BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::model_file(path, error.to_string()))
}

/// The content of the JSON file at `path`; None when there is no such file.
pub fn read_json_if_present<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match read_json(path) {
        Ok(content) => Ok(Some(content)),
        Err(Error::ReadFile { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
