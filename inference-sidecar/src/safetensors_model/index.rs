//! `model.safetensors.index.json`: which of several files holds a tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Far above the largest known models (about 200).
const FILES_MAX: usize = 2_000;

/// The files of a model and where each tensor is.
pub struct WeightIndex {
    /// Plain names, in order.
    files: Vec<String>,
    /// Positions in `files` by the names of tensors.
    positions: BTreeMap<String, usize>,
}

/// The file as it is written.
#[derive(Deserialize)]
struct IndexFile {
    weight_map: BTreeMap<String, String>,
}

impl WeightIndex {
    /// Reads an index; the error is a reason for a person.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let index: IndexFile = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        if files.is_empty() || files.len() > FILES_MAX {
            return Err(format!("it names {} files", files.len()));
        }
        if let Some(name) = files.iter().find(|name| !is_plain(name)) {
            return Err(format!("{name:?} is not the plain name of a weight file"));
        }
        let files: Vec<String> = files.into_iter().cloned().collect();
        let positions = index.weight_map.into_iter().filter_map(|(tensor, file)| {
            let position = files.binary_search(&file).ok()?;
            Some((tensor, position))
        });
        let positions = positions.collect();
        Ok(Self { files, positions })
    }

    /// The plain names of the files, in order.
    pub fn file_names(&self) -> &[String] {
        &self.files
    }

    /// Which of the files holds the tensor `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }
}

/// Whether a file of this name lies in the directory itself.
fn is_plain(name: &str) -> bool {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 255
        && name.ends_with(".safetensors")
        && !name.starts_with('.')
        && name.chars().all(is_usual)
}
