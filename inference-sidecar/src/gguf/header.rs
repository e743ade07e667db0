//! The header of a GGUF file: entries by key, and where each tensor lies. Versions 2 and 3, little
//! endian. Source: ggml's `docs/gguf.md`.
//!
//! Nothing is allocated by a number of the header that was not compared with the file's length.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cursor::{Cursor, Source};
use super::values::Value;
use crate::file_bytes::FileBytes;
use crate::models::Format;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: i128 = 32;
/// Limits of ggml for the length of a key and of a tensor's name.
const KEY_BYTES_MAX: usize = 65_535;
const NAME_BYTES_MAX: usize = 1_024;
/// Far above the largest known models (a few thousand); they bound what the maps take.
const ENTRIES_MAX: usize = 100_000;
const TENSORS_MAX: usize = 100_000;
/// Key length, kind and value; name length, number of dimensions, one of them, format and offset.
const ENTRY_BYTES_MIN: usize = 8 + 4 + 1;
const TENSOR_BYTES_MIN: usize = 8 + 4 + 8 + 4 + 8;

/// A checked header.
pub(super) struct Header {
    pub entries: BTreeMap<Box<str>, Value>,
    pub tensors: BTreeMap<Box<str>, TensorPlace>,
}

/// Where the weights of a tensor are in the file, and how they are written.
pub(super) struct TensorPlace {
    pub format: Format,
    /// The number of columns comes first; dimensions that are not used are 1.
    pub dimensions: [usize; 4],
    pub range: Range<usize>,
}

impl Header {
    /// Reads the header of a file; the error is a reason for a person.
    pub(super) fn read(file: &mut FileBytes) -> Result<Self, String> {
        let file_bytes = file.length();
        let mut cursor = Cursor::at(file, 0);
        let mut header = Self {
            entries: BTreeMap::new(),
            tensors: BTreeMap::new(),
        };
        header
            .read_entries(&mut cursor)
            .map_err(|reason| format!("not a GGUF file: {reason}"))?;
        header.place_tensors(cursor.finish()?, file_bytes)?;
        Ok(header)
    }

    /// Number of weights of all tensors together.
    pub(super) fn weight_count(&self) -> u64 {
        let weights = |tensor: &TensorPlace| tensor.dimensions.iter().product::<usize>() as u64;
        self.tensors.values().map(weights).sum()
    }

    fn read_entries(&mut self, cursor: &mut Cursor<impl Source>) -> Result<(), String> {
        if cursor.array()? != MAGIC {
            return Err("it does not start with \"GGUF\"".into());
        }
        match cursor.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => {
                return Err("it is written in big-endian order".into());
            }
            version => return Err(format!("version {version} is not supported, only 2 and 3")),
        }
        let tensors = cursor.count("tensors", TENSOR_BYTES_MIN)?;
        let entries = cursor.count("entries", ENTRY_BYTES_MIN)?;
        if tensors > TENSORS_MAX || entries > ENTRIES_MAX {
            return Err(format!(
                "{tensors} tensors and {entries} entries are too many"
            ));
        }
        for _ in 0..entries {
            let key = cursor.name(KEY_BYTES_MAX)?;
            let value = Value::read(cursor)?;
            if self.entries.contains_key(&key) {
                return Err(format!("\"{key}\" is there twice"));
            }
            self.entries.insert(key, value);
        }
        for _ in 0..tensors {
            let name = cursor.name(NAME_BYTES_MAX)?;
            let tensor = TensorPlace::read(cursor)
                .map_err(|reason| format!("tensor \"{name}\" {reason}"))?;
            if self.tensors.contains_key(&name) {
                return Err(format!("tensor \"{name}\" is there twice"));
            }
            self.tensors.insert(name, tensor);
        }
        Ok(())
    }

    /// Offsets count from the end of the header, rounded up to the alignment.
    fn place_tensors(&mut self, header_bytes: usize, file_bytes: usize) -> Result<(), String> {
        let alignment = self.alignment()?;
        let outside = |name: &str| format!("tensor \"{name}\" lies outside of the file");
        let mut last = (0, "");
        for (name, tensor) in &mut self.tensors {
            if !tensor.range.start.is_multiple_of(alignment) {
                let offset = tensor.range.start;
                return Err(format!(
                    "tensor \"{name}\" is at offset {offset}, which is no multiple of {alignment}"
                ));
            }
            let place = |offset: usize| {
                let data = header_bytes.checked_next_multiple_of(alignment)?;
                data.checked_add(offset)
            };
            let start = place(tensor.range.start).ok_or_else(|| outside(name))?;
            let end = place(tensor.range.end).ok_or_else(|| outside(name))?;
            tensor.range = start..end;
            last = last.max((end, name));
        }
        let (end, name) = last;
        if end > file_bytes {
            return Err(format!(
                "the file is truncated: tensor \"{name}\" ends {} bytes after the end of the file",
                end - file_bytes
            ));
        }
        Ok(())
    }

    fn alignment(&self) -> Result<usize, String> {
        let alignment = match self.entries.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Integer(alignment)) => *alignment,
            Some(_) => return Err("\"general.alignment\" is not a count".into()),
        };
        let checked = u32::try_from(alignment)
            .ok()
            .filter(|a| a.is_power_of_two());
        checked
            .map(|alignment| alignment as usize)
            .ok_or_else(|| format!("\"general.alignment\" is {alignment}, no power of two"))
    }
}

impl TensorPlace {
    /// The range counts from the start of the weights.
    fn read(cursor: &mut Cursor<impl Source>) -> Result<Self, String> {
        let dimension_count = cursor.u32()?;
        if !(1..=4).contains(&dimension_count) {
            return Err(format!("has {dimension_count} dimensions"));
        }
        let mut dimensions = [1; 4];
        for dimension in dimensions.iter_mut().take(dimension_count as usize) {
            *dimension = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
        }
        let number = cursor.u32()?;
        let format = Format::from_ggml(number)
            .ok_or_else(|| format!("has the ggml type {number}, which is not supported"))?;
        let start = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
        let [columns, planes @ ..] = dimensions;
        let row_bytes = format.row_bytes(columns).ok_or_else(|| {
            format!("has rows of {columns} weights, no whole number of {format:?} blocks")
        })?;
        let end = planes
            .iter()
            .try_fold(row_bytes, |bytes, plane| bytes.checked_mul(*plane))
            .filter(|bytes| *bytes > 0)
            .and_then(|bytes| start.checked_add(bytes))
            .ok_or_else(|| format!("has the impossible shape {dimensions:?}"))?;
        Ok(Self {
            format,
            dimensions,
            range: start..end,
        })
    }
}
