//! SHA-256 of a weight file: it names the version of a vector or answer.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::Error;

/// Which weights these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// 64 lower-case hex digits.
    pub sha256: String,
    pub bytes: u64,
}

/// Reads the file once; fails when its SHA-256 is not the `expected` one.
pub fn fingerprint(path: &Path, expected: Option<&str>) -> Result<Fingerprint, Error> {
    let at_path = |source| Error::ReadFile {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(at_path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).map_err(at_path)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        hasher.update(&buffer[..count]);
    }
    let mut sha256 = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(sha256, "{byte:02x}");
    }
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&sha256) => Err(Error::WeightsChanged {
            path: path.to_owned(),
            actual: sha256,
            expected: expected.to_owned(),
        }),
        _ => Ok(Fingerprint { sha256, bytes }),
    }
}
