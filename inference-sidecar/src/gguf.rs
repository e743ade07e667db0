//! Typed, checked access to a GGUF file: metadata by key, tensors by name and expected shape.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, Value};

use crate::error::Error;

/// An open GGUF file whose header has been read.
pub struct GgufFile {
    path: PathBuf,
    reader: BufReader<File>,
    content: Content,
}

impl GgufFile {
    /// Reads the header of the file at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::ReadFile {
            path: path.to_owned(),
            source,
        })?;
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader)
            .map_err(|error| Error::model_file(path, format!("not a GGUF file: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            content,
        })
    }

    /// An error about this file.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::model_file(&self.path, reason)
    }

    pub fn count(&self, key: &str) -> Result<usize, Error> {
        let count = self
            .required(key)?
            .to_u64()
            .ok()
            .and_then(|value| usize::try_from(value).ok());
        count.ok_or_else(|| self.refuse(format!("\"{key}\" is not a count")))
    }

    /// A count that must lie in `range`: the header of a damaged file may say anything.
    pub fn count_in(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, Error> {
        let count = self.count(key)?;
        if range.contains(&count) {
            return Ok(count);
        }
        let (low, high) = range.into_inner();
        Err(self.refuse(format!("\"{key}\" is {count}, expected {low} to {high}")))
    }

    pub fn number(&self, key: &str) -> Result<f32, Error> {
        self.required(key)?
            .to_f32()
            .ok()
            .filter(|value| value.is_finite())
            .ok_or_else(|| self.refuse(format!("\"{key}\" is not a number")))
    }

    pub fn text(&self, key: &str) -> Result<&str, Error> {
        let text = self.required(key)?.to_string();
        text.map(String::as_str)
            .map_err(|_| self.refuse(format!("\"{key}\" is not a text")))
    }

    pub fn texts(&self, key: &str) -> Result<Vec<&str>, Error> {
        let not_texts = || self.refuse(format!("\"{key}\" is not a list of texts"));
        let values = self.required(key)?.to_vec().map_err(|_| not_texts())?;
        values
            .iter()
            .map(|value| {
                value
                    .to_string()
                    .map(String::as_str)
                    .map_err(|_| not_texts())
            })
            .collect()
    }

    /// Small integers of any width, signed or not.
    pub fn codes(&self, key: &str) -> Result<Vec<i64>, Error> {
        let not_codes = || self.refuse(format!("\"{key}\" is not a list of integers"));
        let code = |value: &Value| match value {
            Value::I32(code) => Ok(i64::from(*code)),
            other => other
                .to_u64()
                .ok()
                .and_then(|c| i64::try_from(c).ok())
                .ok_or_else(not_codes),
        };
        let values = self.required(key)?.to_vec().map_err(|_| not_codes())?;
        values.iter().map(code).collect()
    }

    pub fn flag(&self, key: &str) -> Result<bool, Error> {
        let flag = self.required(key)?.to_bool();
        flag.map_err(|_| self.refuse(format!("\"{key}\" is not a flag")))
    }

    pub fn has(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    pub fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// Number of weights of all tensors together.
    pub fn weight_count(&self) -> u64 {
        self.content
            .tensor_infos
            .values()
            .flat_map(|info| {
                info.shape
                    .dims()
                    .iter()
                    .try_fold(1u64, |n, &d| n.checked_mul(d as u64))
            })
            .fold(0, u64::saturating_add)
    }

    /// Reads a tensor, which must have exactly `shape`.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<QTensor, Error> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(self.refuse(format!("tensor \"{name}\" is missing")));
        };
        if info.shape.dims() != shape {
            let found = info.shape.dims();
            let reason = format!("tensor \"{name}\" has shape {found:?}, expected {shape:?}");
            return Err(self.refuse(reason));
        }
        let offset = self.content.tensor_data_offset;
        let tensor = info.read(&mut self.reader, offset, &Device::Cpu);
        tensor.map_err(|error| self.refuse(format!("tensor \"{name}\": {error}")))
    }

    fn required(&self, key: &str) -> Result<&Value, Error> {
        let value = self.content.metadata.get(key);
        value.ok_or_else(|| self.refuse(format!("\"{key}\" is missing")))
    }
}
