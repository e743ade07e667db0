//! SHA-256 of the weight files of a model: it names the version of a vector or answer.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Error;

/// Which weights these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// 64 lower-case hex digits.
    pub sha256: String,
    pub bytes: u64,
}

impl Fingerprint {
    /// That of the same weights where they are rounded: another version, whose vectors are not those of the files.
    pub fn rounded_to(mut self, format: &str) -> Self {
        self.sha256 = hex(&Sha256::digest(format!("{}, {format}", self.sha256)));
        self
    }
}

/// Reads the files once, one behind the other; fails when their SHA-256 is not the `expected` one.
/// There is at least one.
pub fn fingerprint(paths: &[PathBuf], expected: Option<&str>) -> Result<Fingerprint, Error> {
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    for path in paths {
        bytes += hash_file(path, &mut hasher).map_err(|source| Error::ReadFile {
            path: path.clone(),
            source,
        })?;
    }
    let sha256 = hex(&hasher.finalize());
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&sha256) => Err(Error::WeightsChanged {
            path: paths[0].clone(),
            actual: sha256,
            expected: expected.to_owned(),
        }),
        _ => Ok(Fingerprint { sha256, bytes }),
    }
}

/// Two lower-case digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_file(path: &Path, hasher: &mut Sha256) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes += count as u64;
        hasher.update(&buffer[..count]);
    }
}
