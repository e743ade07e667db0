//! The stored file of an adapter: its checksum, and whether it is a safetensors file at all. What the tensors
//! mean is for the sidecar to judge.

use pgrx::check_for_interrupts;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::registry;
use crate::error::Error;

/// A safetensors file begins with the length of its JSON header: 64 bits, little-endian.
const LENGTH_BYTES: usize = 8;
/// Longest header that is read; a large adapter's has some 100 kB.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// The one key of the header that is not a tensor.
const METADATA: &str = "__metadata__";

/// Reads all parts once; returns `{sha256, content_bytes, part_count, tensor_count}`.
pub fn inspect(adapter_id: i64) -> Result<Value, Error> {
    let mut digest = Sha256::new();
    let mut content_bytes = 0;
    let mut head = Vec::new();
    let mut part_count = 0;
    while let Some(part) = registry::part(adapter_id, part_count)? {
        check_for_interrupts!();
        digest.update(&part);
        content_bytes += part.len() as u64;
        take_head(&mut head, &part)?;
        part_count += 1;
    }
    if i64::from(part_count) != registry::part_count(adapter_id)? {
        return Err(Error::argument(format!(
            "part {part_count} of the adapter is missing"
        )));
    }
    Ok(json!({
        "sha256": format!("{:x}", digest.finalize()),
        "content_bytes": content_bytes,
        "part_count": part_count,
        "tensor_count": tensor_count(&head, content_bytes)?,
    }))
}

/// Appends what the head (length and header) still lacks.
fn take_head(head: &mut Vec<u8>, part: &[u8]) -> Result<(), Error> {
    let mut rest = part;
    loop {
        let missing = head_bytes(head)?.saturating_sub(head.len());
        let (taken, left) = rest.split_at(missing.min(rest.len()));
        if taken.is_empty() {
            return Ok(());
        }
        head.extend_from_slice(taken);
        rest = left;
    }
}

/// Bytes of length and header, as far as known.
fn head_bytes(head: &[u8]) -> Result<usize, Error> {
    let Some(length) = head.first_chunk::<LENGTH_BYTES>() else {
        return Ok(LENGTH_BYTES);
    };
    match u64::from_le_bytes(*length) {
        length @ 2..=HEADER_BYTES_MAX => Ok(LENGTH_BYTES + length as usize),
        _ => Err(not_safetensors("its header has an impossible length")),
    }
}

/// Tensors whose data lie within the file; together they must reach its end.
fn tensor_count(head: &[u8], content_bytes: u64) -> Result<usize, Error> {
    if head.len() < head_bytes(head)? {
        return Err(not_safetensors("it ends within its header"));
    }
    let header: Map<String, Value> = serde_json::from_slice(&head[LENGTH_BYTES..])
        .map_err(|_| not_safetensors("its header is not a JSON object"))?;
    let tensors = header.iter().filter(|(name, _)| *name != METADATA);
    let ends = tensors
        .map(|(_, tensor)| data_end(tensor))
        .collect::<Option<Vec<u64>>>()
        .ok_or_else(|| not_safetensors("a tensor has no data_offsets"))?;
    let data_bytes = content_bytes - head.len() as u64;
    if ends.is_empty() {
        return Err(not_safetensors("it has no tensors"));
    }
    if ends.iter().max() != Some(&data_bytes) {
        return Err(not_safetensors(
            "its tensors do not end where the file ends",
        ));
    }
    Ok(ends.len())
}

fn data_end(tensor: &Value) -> Option<u64> {
    let offsets = tensor.get("data_offsets")?;
    let (begin, end) = (offsets.get(0)?.as_u64()?, offsets.get(1)?.as_u64()?);
    (begin <= end).then_some(end)
}

fn not_safetensors(why: &str) -> Error {
    Error::Argument {
        message: format!("content is not a safetensors file: {why}"),
        hint: Some("Pass the whole adapter_model.safetensors, parts in order, positions from 0."),
    }
}
