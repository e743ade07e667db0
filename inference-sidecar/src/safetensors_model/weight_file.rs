//! One safetensors file: eight bytes of header length, a JSON header, the weights.
//! Source: the format description of the `safetensors` project.

use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::Error;
use crate::file_bytes::FileBytes;
use crate::models::{Format, Matrix, UnreadMatrix};

const LENGTH_BYTES: usize = 8;
/// The largest known models need less than 1 MiB; JSON takes many times its length while it is read.
const HEADER_BYTES_MAX: usize = 1 << 24;

/// A file whose header has been checked.
pub struct WeightFile {
    bytes: FileBytes,
    metadata: Metadata,
    data_start: usize,
}

impl WeightFile {
    /// Reads the header of the file at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(FileBytes::open(path)?)
    }

    /// The file with the content `bytes`; `path` only names it in errors.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        Self::read(FileBytes::in_memory(bytes, path))
    }

    fn read(mut bytes: FileBytes) -> Result<Self, Error> {
        let header = read_header(&mut bytes);
        let (metadata, data_start) =
            header.map_err(|reason| Error::model_file(bytes.path(), reason))?;
        Ok(Self {
            bytes,
            metadata,
            data_start,
        })
    }

    /// The path that the file was opened with.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// Bytes of the whole file.
    pub fn length(&self) -> usize {
        self.bytes.length()
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

    /// The tensor `name`, which must have exactly this shape.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Error> {
        self.unread_matrix(name, rows, columns)?.read()
    }

    /// As `matrix`, before anything is read.
    pub fn unread_matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<UnreadMatrix<'_>, Error> {
        self.unread(name, &[rows, columns])
    }

    /// The tensor `name` of one dimension, unpacked.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        Ok(self.unread(name, &[length])?.read()?.to_f32())
    }

    /// A vector is one row.
    fn unread(&self, name: &str, shape: &[usize]) -> Result<UnreadMatrix<'_>, Error> {
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
        let (rows, columns) = match *shape {
            [rows, columns] => (rows, columns),
            _ => (1, shape.iter().product()),
        };
        self.place(tensor.data_offsets)
            .and_then(|place| UnreadMatrix::new(format, rows, columns, &self.bytes, place))
            .ok_or_else(|| self.refuse(format!("tensor \"{name}\" does not lie in the file")))
    }

    fn place(&self, (start, end): (usize, usize)) -> Option<Range<usize>> {
        let range = self.data_start.checked_add(start)?..self.data_start.checked_add(end)?;
        (range.start <= range.end && range.end <= self.length()).then_some(range)
    }

    fn refuse(&self, reason: String) -> Error {
        Error::model_file(self.path(), reason)
    }
}

/// The header and where the weights start.
///
/// `SafeTensors::deserialize` is not used, because its sum of header and weights can overflow.
fn read_header(file: &mut FileBytes) -> Result<(Metadata, usize), String> {
    let file_bytes = file.length();
    if file_bytes < LENGTH_BYTES {
        return Err("not a safetensors file: it ends within its header".into());
    }
    let read = |error: Error| error.to_string();
    let mut length = [0; LENGTH_BYTES];
    length.copy_from_slice(file.read_head(0..LENGTH_BYTES).map_err(read)?);
    let length = u64::from_le_bytes(length);
    let header = usize::try_from(length)
        .ok()
        .filter(|length| *length <= HEADER_BYTES_MAX && *length <= file_bytes - LENGTH_BYTES)
        .map(|length| LENGTH_BYTES..LENGTH_BYTES + length)
        .ok_or_else(|| {
            format!("not a safetensors file: it cannot have a header of {length} bytes")
        })?;
    let data_start = header.end;
    let metadata: Metadata = serde_json::from_slice(file.read_head(header).map_err(read)?)
        .map_err(|error| format!("not a safetensors file: {error}"))?;
    // The tensors follow each other without gaps, so the last one ends the file.
    let (expected, found) = (metadata.data_len(), file_bytes - data_start);
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
    Ok((metadata, data_start))
}
