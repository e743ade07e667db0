//! Originals at rest: deflated, then AES-256-GCM-SIV (RFC 8452) under a data key per interaction, which
//! is itself wrapped by the master key from `salesai.master_key_file`.
//!
//! Wrapped key: version (1 byte), master key id (8), nonce (12), encrypted key with tag (48).
//! Ciphertext: version (1), nonce (12), encrypted payload with tag. Both are bound to their row by the
//! associated data, so that a ciphertext moved to another row does not open.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use aes_gcm_siv::aead::rand_core::RngCore;
use aes_gcm_siv::aead::{Aead, KeyInit, OsRng, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Key, Nonce};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config;

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;

/// Why an original could not be sealed or opened.
#[derive(Debug, Error)]
pub enum VaultError {
    #[error("no master key file is set")]
    NoKeyFile,
    #[error("could not read the master key file")]
    KeyUnreadable(#[source] std::io::Error),
    #[error("the master key file is open to others")]
    KeyPermissions,
    #[error("the master key file does not hold 64 hex digits")]
    KeyFormat,
    #[error("the original was sealed under another master key")]
    OtherMasterKey,
    #[error("the original cannot be opened")]
    Corrupted,
    #[error("could not compress the original")]
    Compression(#[source] std::io::Error),
}

/// The master key, wiped from memory when dropped.
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    /// Reads the key file; it must be readable by its owner alone.
    pub fn load() -> Result<Self, VaultError> {
        let path = config::master_key_file().ok_or(VaultError::NoKeyFile)?;
        let file = std::fs::File::open(path).map_err(VaultError::KeyUnreadable)?;
        let mode = file
            .metadata()
            .map_err(VaultError::KeyUnreadable)?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(VaultError::KeyPermissions);
        }
        let mut text = Zeroizing::new(String::new());
        // A key file is 65 bytes; a device or a huge file is not read to its end.
        file.take(1024)
            .read_to_string(&mut text)
            .map_err(VaultError::KeyUnreadable)?;
        Ok(Self(parse_hex(text.trim()).ok_or(VaultError::KeyFormat)?))
    }

    /// A fresh data key for one interaction, wrapped.
    pub fn new_data_key(&self, interaction_id: i64) -> Result<Vec<u8>, VaultError> {
        let mut data_key = Zeroizing::new([0_u8; KEY_BYTES]);
        OsRng.fill_bytes(data_key.as_mut());
        let mut wrapped = vec![FORMAT];
        wrapped.extend(self.id());
        wrapped.extend(encrypt(
            &self.0,
            data_key.as_ref(),
            &key_context(interaction_id),
        )?);
        Ok(wrapped)
    }

    /// Deflates and encrypts a payload.
    pub fn seal(
        &self,
        payload: &[u8],
        wrapped_key: &[u8],
        row: Row,
    ) -> Result<Vec<u8>, VaultError> {
        let data_key = self.unwrap_key(wrapped_key, row.interaction_id)?;
        let mut encoder =
            // The caller waits for it: level 3 takes twice as long and saves a third of the room.
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder
            .write_all(payload)
            .map_err(VaultError::Compression)?;
        let deflated = encoder.finish().map_err(VaultError::Compression)?;
        let mut sealed = vec![FORMAT];
        sealed.extend(encrypt(&data_key, &deflated, &row.context())?);
        Ok(sealed)
    }

    /// Reverses [`MasterKey::seal`].
    pub fn unseal(
        &self,
        sealed: &[u8],
        wrapped_key: &[u8],
        row: Row,
    ) -> Result<Vec<u8>, VaultError> {
        let data_key = self.unwrap_key(wrapped_key, row.interaction_id)?;
        let Some((&FORMAT, body)) = sealed.split_first() else {
            return Err(VaultError::Corrupted);
        };
        let deflated = decrypt(&data_key, body, &row.context())?;
        let mut payload = Vec::new();
        flate2::read::DeflateDecoder::new(deflated.as_slice())
            .read_to_end(&mut payload)
            .map_err(VaultError::Compression)?;
        Ok(payload)
    }

    fn unwrap_key(
        &self,
        wrapped: &[u8],
        interaction_id: i64,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let Some((&FORMAT, rest)) = wrapped.split_first() else {
            return Err(VaultError::Corrupted);
        };
        let (id, body) = rest
            .split_at_checked(KEY_ID_BYTES)
            .ok_or(VaultError::Corrupted)?;
        if id != self.id() {
            return Err(VaultError::OtherMasterKey);
        }
        let plain = Zeroizing::new(decrypt(&self.0, body, &key_context(interaction_id))?);
        let key = plain
            .as_slice()
            .try_into()
            .map_err(|_| VaultError::Corrupted)?;
        Ok(Zeroizing::new(key))
    }

    /// Names the key without giving it away.
    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let digest = Sha256::new()
            .chain_update(b"salesai master key id")
            .chain_update(*self.0)
            .finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        id
    }
}

/// The row that a ciphertext belongs to: of `salesai.raw_payload`, or of `salesai.segment`.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub interaction_id: i64,
    pub version: i32,
    pub part: Part,
}

/// What of the version it is.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    Payload,
    /// The text that was read from a document.
    Text,
    /// The segment at this position.
    Segment(i32),
}

impl Row {
    fn context(self) -> Vec<u8> {
        let (interaction, version) = (self.interaction_id, self.version);
        match self.part {
            Part::Payload => format!("payload {interaction} {version}"),
            Part::Text => format!("text {interaction} {version}"),
            Part::Segment(position) => format!("segment {interaction} {version} {position}"),
        }
        .into_bytes()
    }
}

fn key_context(interaction_id: i64) -> Vec<u8> {
    format!("key {interaction_id}").into_bytes()
}

fn encrypt(key: &[u8; KEY_BYTES], plain: &[u8], context: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut nonce = [0_u8; NONCE_BYTES];
    OsRng.fill_bytes(&mut nonce);
    let cipher = Aes256GcmSiv::new(Key::<Aes256GcmSiv>::from_slice(key));
    let encrypted = cipher
        .encrypt(
            Nonce::from_slice(&nonce),
            Payload {
                msg: plain,
                aad: context,
            },
        )
        .map_err(|_| VaultError::Corrupted)?;
    Ok([nonce.as_slice(), &encrypted].concat())
}

fn decrypt(key: &[u8; KEY_BYTES], body: &[u8], context: &[u8]) -> Result<Vec<u8>, VaultError> {
    let (nonce, encrypted) = body
        .split_at_checked(NONCE_BYTES)
        .ok_or(VaultError::Corrupted)?;
    Aes256GcmSiv::new(Key::<Aes256GcmSiv>::from_slice(key))
        .decrypt(
            Nonce::from_slice(nonce),
            Payload {
                msg: encrypted,
                aad: context,
            },
        )
        .map_err(|_| VaultError::Corrupted)
}

fn parse_hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}
