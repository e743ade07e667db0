//! Llama models in a Hugging Face directory: `config.json` and safetensors weights in one file or
//! in several with an index.
//!
//! - this module: the model as a whole
//! - `config`: the sizes and constants of `config.json`
//! - `index`: which file holds a tensor
//! - `weight_file`: one safetensors file
//!
//! The headers are in memory; a tensor is read when it is asked for, or by its user in pieces.

mod config;
mod index;
mod weight_file;

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::file_bytes::read_at_most;
use crate::models::UnreadMatrix;
pub use config::{LlamaConfig, RopeScaling};
pub use index::WeightIndex;
pub use weight_file::WeightFile;

const CONFIG_BYTES_MAX: u64 = 1 << 20;
const INDEX_BYTES_MAX: u64 = 1 << 24;

/// A model whose headers have been checked. Its errors are
/// `Error::ModelFile` with the path of the directory or of the file concerned.
pub struct SafetensorsModel {
    directory: PathBuf,
    config: LlamaConfig,
    /// None when there is one file.
    index: Option<WeightIndex>,
    /// In the order of the index.
    files: Vec<WeightFile>,
}

impl SafetensorsModel {
    /// Reads the headers of the model in `directory`.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("config.json");
        let config = LlamaConfig::parse(&read_at_most(&path, CONFIG_BYTES_MAX)?)
            .map_err(|reason| Error::model_file(path, reason))?;
        let single = directory.join("model.safetensors");
        let (index, files) = if single.exists() {
            (None, vec![WeightFile::open(&single)?])
        } else {
            let path = directory.join("model.safetensors.index.json");
            let index = WeightIndex::parse(&read_at_most(&path, INDEX_BYTES_MAX)?)
                .map_err(|reason| Error::model_file(path, reason))?;
            let names = index.file_names().iter();
            let files = names.map(|name| WeightFile::open(&directory.join(name)));
            let files = files.collect::<Result<_, _>>()?;
            (Some(index), files)
        };
        Ok(Self {
            directory: directory.to_owned(),
            config,
            index,
            files,
        })
    }

    /// Sizes and constants of the model.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// An error about this model.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::model_file(&self.directory, reason)
    }

    /// The weight files, in the order of their names.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// Bytes of all weight files together.
    pub fn file_bytes(&self) -> u64 {
        let bytes = |file: &WeightFile| file.length() as u64;
        self.files.iter().map(bytes).sum()
    }

    /// Whether the model has a tensor `name`.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.file_of(name).is_some_and(|file| file.has_tensor(name))
    }

    /// The tensor `name`, which must have exactly this shape.
    pub fn unread_matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<UnreadMatrix<'_>, Error> {
        self.required(name)?.unread_matrix(name, rows, columns)
    }

    /// The tensor `name` of one dimension, unpacked.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.required(name)?.vector(name, length)
    }

    fn required(&self, name: &str) -> Result<&WeightFile, Error> {
        self.file_of(name)
            .ok_or_else(|| self.refuse(format!("tensor \"{name}\" is missing")))
    }

    fn file_of(&self, name: &str) -> Option<&WeightFile> {
        match &self.index {
            Some(index) => self.files.get(index.position(name)?),
            None => self.files.first(),
        }
    }
}
