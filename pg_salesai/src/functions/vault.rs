//! Sealing and opening originals.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use sha2::{Digest, Sha256};

use super::redaction;
use crate::error::Error;
use crate::vault::{MasterKey, Part, Row, VaultError};

/// The server's own `sha256` takes ten times as long where it is built without OpenSSL.
#[pg_extern(sql = "")]
fn payload_hash(payload: &[u8]) -> Vec<u8> {
    Sha256::digest(payload).to_vec()
}

#[pg_extern(sql = "")]
fn new_data_key(interaction_id: i64) -> Result<Vec<u8>, ErrorReport> {
    Ok(master_key()?
        .new_data_key(interaction_id)
        .map_err(Error::from)?)
}

#[pg_extern(sql = "")]
fn seal(
    payload: &[u8],
    wrapped_key: &[u8],
    interaction_id: i64,
    version: i32,
) -> Result<Vec<u8>, ErrorReport> {
    let row = Row {
        interaction_id,
        version,
        part: Part::Payload,
    };
    Ok(master_key()?
        .seal(payload, wrapped_key, row)
        .map_err(Error::from)?)
}

#[pg_extern(sql = "")]
fn unseal(
    ciphertext: &[u8],
    wrapped_key: &[u8],
    interaction_id: i64,
    version: i32,
) -> Result<Vec<u8>, ErrorReport> {
    redaction::require_whole_originals()?;
    let row = Row {
        interaction_id,
        version,
        part: Part::Payload,
    };
    Ok(master_key()?
        .unseal(ciphertext, wrapped_key, row)
        .map_err(Error::from)?)
}

#[pg_extern(sql = "")]
fn seal_text(
    content: &str,
    wrapped_key: &[u8],
    interaction_id: i64,
    version: i32,
) -> Result<Vec<u8>, ErrorReport> {
    let row = Row {
        interaction_id,
        version,
        part: Part::Text,
    };
    Ok(master_key()?
        .seal(content.as_bytes(), wrapped_key, row)
        .map_err(Error::from)?)
}

#[pg_extern(sql = "")]
fn unseal_text(
    sealed: &[u8],
    wrapped_key: &[u8],
    interaction_id: i64,
    version: i32,
) -> Result<String, ErrorReport> {
    let row = Row {
        interaction_id,
        version,
        part: Part::Text,
    };
    Ok(unsealed_text(sealed, wrapped_key, row)?)
}

#[pg_extern(sql = "")]
fn unseal_segment(
    sealed: &[u8],
    wrapped_key: &[u8],
    interaction_id: i64,
    version: i32,
    position: i32,
) -> Result<String, ErrorReport> {
    let row = Row {
        interaction_id,
        version,
        part: Part::Segment(position),
    };
    Ok(unsealed_text(sealed, wrapped_key, row)?)
}

/// Without what a policy hides from the role: here, so that no SQL gets around it.
fn unsealed_text(sealed: &[u8], wrapped_key: &[u8], row: Row) -> Result<String, Error> {
    let content = master_key()?.unseal(sealed, wrapped_key, row)?;
    let content = String::from_utf8(content).map_err(|_| VaultError::Corrupted)?;
    redaction::visible(content, row.interaction_id)
}

#[pg_extern(sql = "")]
fn master_key_state() -> Option<String> {
    MasterKey::load()
        .err()
        .map(|error: VaultError| error.to_string())
}

fn master_key() -> Result<MasterKey, Error> {
    Ok(MasterKey::load()?)
}
