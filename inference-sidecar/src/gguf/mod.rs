//! GGUF files, read by checked code: entries by key, weights by name and expected shape.
//!
//! - this module: typed access
//! - `header`: entries and the places of tensors; `values`: what an entry says
//! - `cursor`: numbers and texts, within bounds
//!
//! The header is in memory; a tensor is read when it is asked for, or by its user in pieces.

mod cursor;
mod header;
mod values;

use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::Error;
use crate::file_bytes::FileBytes;
use crate::models::{Matrix, UnreadMatrix};
use header::{Header, TensorPlace};
use values::{List, Value};

/// A GGUF file whose header has been checked. Its errors are `Error::ModelFile` with the
/// path of the file.
pub struct GgufFile {
    bytes: FileBytes,
    header: Header,
}

impl GgufFile {
    /// Reads the header of the file at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read(FileBytes::open(path)?)
    }

    /// The file with the content `bytes`; `path` only names it in errors.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        Self::read(FileBytes::in_memory(bytes, path))
    }

    fn read(mut bytes: FileBytes) -> Result<Self, Error> {
        let header = Header::read(&mut bytes);
        let header = header.map_err(|reason| Error::model_file(bytes.path(), reason))?;
        Ok(Self { bytes, header })
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// An error about this file.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::model_file(self.path(), reason)
    }

    /// An integer that is not negative.
    pub fn count(&self, key: &str) -> Result<usize, Error> {
        let count = match self.required(key)? {
            Value::Integer(integer) => usize::try_from(*integer).ok(),
            _ => None,
        };
        count.ok_or_else(|| self.refuse(format!("\"{key}\" is not a count")))
    }

    /// A count that must lie in `range`: the header of a damaged file may say anything.
    pub fn count_in(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize, Error> {
        let count = self.count(key)?;
        if range.contains(&count) {
            return Ok(count);
        }
        let (low, high) = range.into_inner();
        Err(self.refuse(format!("\"{key}\" is {count}, expected {low} to {high}")))
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<f32, Error> {
        let number = match self.required(key)? {
            Value::Number(number) => Some(*number as f32).filter(|number| number.is_finite()),
            _ => None,
        };
        number.ok_or_else(|| self.refuse(format!("\"{key}\" is not a number")))
    }

    /// A text, which must be UTF-8.
    pub fn text(&self, key: &str) -> Result<&str, Error> {
        let text = match self.required(key)? {
            Value::Text(range) => str::from_utf8(&self.bytes.head()[range.clone()]).ok(),
            _ => None,
        };
        text.ok_or_else(|| self.refuse(format!("\"{key}\" is not a text")))
    }

    /// A list of texts, which stay in the file's head.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, Error> {
        let texts = self
            .list(key)?
            .and_then(|list| list.texts(self.bytes.head()));
        texts.ok_or_else(|| self.refuse(format!("\"{key}\" is not a list of texts")))
    }

    /// A list of integers of any width, signed or not.
    pub fn codes(&self, key: &str) -> Result<Vec<i64>, Error> {
        let codes = self
            .list(key)?
            .and_then(|list| list.integers(self.bytes.head()));
        codes.ok_or_else(|| self.refuse(format!("\"{key}\" is not a list of integers")))
    }

    /// A list of finite numbers.
    pub fn numbers(&self, key: &str) -> Result<Vec<f32>, Error> {
        let numbers = self
            .list(key)?
            .and_then(|list| list.numbers(self.bytes.head()));
        numbers.ok_or_else(|| self.refuse(format!("\"{key}\" is not a list of numbers")))
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.required(key)? {
            Value::Flag(flag) => Ok(*flag),
            _ => Err(self.refuse(format!("\"{key}\" is not a flag"))),
        }
    }

    /// Whether the header has an entry `key`.
    pub fn has(&self, key: &str) -> bool {
        self.header.entries.contains_key(key)
    }

    /// Whether the file holds a tensor `name`.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// The keys of all entries, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.header.entries.keys().map(Box::as_ref)
    }

    /// Name and dimensions of each tensor, the columns first, unused dimensions being 1.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, [usize; 4])> {
        let tensors = self.header.tensors.iter();
        tensors.map(|(name, tensor)| (name.as_ref(), tensor.dimensions))
    }

    /// Number of weights of all tensors together.
    pub fn weight_count(&self) -> u64 {
        self.header.weight_count()
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
        let tensor = self.tensor_of_shape(name, [columns, rows, 1, 1])?;
        UnreadMatrix::new(
            tensor.format,
            rows,
            columns,
            &self.bytes,
            tensor.range.clone(),
        )
        .ok_or_else(|| self.refuse(format!("tensor \"{name}\" has no {rows} rows")))
    }

    /// The tensor `name` of one dimension, unpacked.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.matrix(name, 1, length).map(|matrix| matrix.to_f32())
    }

    fn tensor_of_shape(&self, name: &str, shape: [usize; 4]) -> Result<&TensorPlace, Error> {
        let Some(tensor) = self.header.tensors.get(name) else {
            return Err(self.refuse(format!("tensor \"{name}\" is missing")));
        };
        if tensor.dimensions != shape {
            let found = tensor.dimensions;
            let reason = format!("tensor \"{name}\" has shape {found:?}, expected {shape:?}");
            return Err(self.refuse(reason));
        }
        Ok(tensor)
    }

    fn list(&self, key: &str) -> Result<Option<&List>, Error> {
        match self.required(key)? {
            Value::List(list) => Ok(Some(list)),
            _ => Ok(None),
        }
    }

    fn required(&self, key: &str) -> Result<&Value, Error> {
        let value = self.header.entries.get(key);
        value.ok_or_else(|| self.refuse(format!("\"{key}\" is missing")))
    }
}
