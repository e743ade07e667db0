//! One safetensors file in memory: eight bytes of header length, a JSON header, the weights.
//! Source: the format description of the `safetensors` project.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::Error;
use crate::models::{Format, Matrix, WeightBytes};

const LENGTH_BYTES: usize = 8;
/// The largest known models need less than 1 MiB; JSON takes many times its length while it is read.
const HEADER_BYTES_MAX: usize = 1 << 24;

/// A file whose header has been checked.
pub struct WeightFile {
    path: PathBuf,
    bytes: Arc<Vec<u8>>,
    metadata: Metadata,
    data_start: usize,
}

impl WeightFile {
    /// The file with the content `bytes`; `path` only names it in errors.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        let (metadata, data_start) =
            read_header(&bytes).map_err(|reason| Error::model_file(path, reason))?;
        Ok(Self {
            path: path.to_owned(),
            bytes: Arc::new(bytes),
            metadata,
            data_start,
        })
    }

    /// The path that the file was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Name and shape of each tensor, in the order of their weights.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let names = self.metadata.offset_keys().into_iter();
        let shape = |name: &str| self.metadata.info(name).map(|info| info.shape.clone());
        names
            .filter_map(|name| shape(&name).map(|shape| (name, shape)))
            .collect()
    }

    /// Whether the file holds a tensor `name`.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The tensor `name`, which must have exactly this shape; it shares the file's buffer.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        let (format, bytes) = self.weights(name, &[rows, columns])?;
        Matrix::new(format, rows, columns, bytes).ok_or_else(|| self.refuse_place(name))
    }

    /// The tensor `name` of one dimension, unpacked.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let (format, bytes) = self.weights(name, &[length])?;
        let matrix = Matrix::new(format, 1, length, bytes);
        matrix
            .map(|matrix| matrix.to_f32())
            .ok_or_else(|| self.refuse_place(name))
    }

    fn weights(&self, name: &str, shape: &[usize]) -> Result<(Format, WeightBytes), Error> {
        let Some(tensor) = self.metadata.info(name) else {
            return Err(self.refuse(format!("tensor \"{name}\" is missing")));
        };
        if tensor.shape != shape {
            let found = &tensor.shape;
            let reason = format!("tensor \"{name}\" has shape {found:?}, expected {shape:?}");
            return Err(self.refuse(reason));
        }
        let format = match tensor.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            other => {
                let reason = format!("tensor \"{name}\" has type {other}, which is not supported");
                return Err(self.refuse(reason));
            }
        };
        self.place(tensor.data_offsets)
            .and_then(|range| WeightBytes::new(self.bytes.clone(), range))
            .map(|bytes| (format, bytes))
            .ok_or_else(|| self.refuse_place(name))
    }

    fn place(&self, (start, end): (usize, usize)) -> Option<Range<usize>> {
        Some(self.data_start.checked_add(start)?..self.data_start.checked_add(end)?)
    }

    fn refuse_place(&self, name: &str) -> Error {
        self.refuse(format!("tensor \"{name}\" does not lie in the file"))
    }

    fn refuse(&self, reason: String) -> Error {
        Error::model_file(&self.path, reason)
    }
}

/// The header and where the weights start.
///
/// `SafeTensors::deserialize` is not used, because its sum of header and weights can overflow.
fn read_header(bytes: &[u8]) -> Result<(Metadata, usize), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err("not a safetensors file: it ends within its header".into());
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length)
        .ok()
        .filter(|length| *length <= HEADER_BYTES_MAX)
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| {
            format!("not a safetensors file: it cannot have a header of {length} bytes")
        })?;
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|error| format!("not a safetensors file: {error}"))?;
    // The tensors follow each other without gaps, so the last one ends the file.
    let (expected, found) = (metadata.data_len(), rest.len() - header.len());
    if found < expected {
        let missing = expected - found;
        return Err(format!(
            "the file is truncated: {missing} bytes are missing"
        ));
    }
    if found > expected {
        let extra = found - expected;
        return Err(format!("{extra} bytes follow the last tensor"));
    }
    Ok((metadata, LENGTH_BYTES + header.len()))
}
