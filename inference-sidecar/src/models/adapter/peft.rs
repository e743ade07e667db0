//! A PEFT adapter as its two files say it: checked against themselves, not yet against a model.

use std::collections::BTreeMap;
use std::ops::Range;

use kernels::{Arena, DenseMatrix, NoMemory};
use safetensors::{Dtype, SafeTensors};

use super::config::LoraConfig;
use super::tensor_name::{self, Factor, Place};
use crate::models::{Adapter, AdapterBase, Format, LowRank, Module};

/// Values that are checked at once.
const CHECK_VALUES: usize = 1024;
/// Bytes of a safetensors header; a thousand layers of adapters need two million.
const HEADER_BYTES_MAX: u64 = 8 << 20;

/// The parsed files of an adapter.
pub struct PeftAdapter {
    config: LoraConfig,
    /// The safetensors file.
    content: Vec<u8>,
    changes: BTreeMap<Place, Change>,
}

/// The two factors of one linear layer.
struct Change {
    a: Tensor,
    b: Tensor,
    scale: f32,
}

/// A matrix in the file; its size is that of its bytes.
struct Tensor {
    name: String,
    format: Format,
    rows: usize,
    columns: usize,
    bytes: Range<usize>,
}

impl PeftAdapter {
    /// Parses `adapter_config.json` and `adapter_model.safetensors`; the error says what is wrong
    /// or not supported, by name.
    pub fn parse(config_json: &str, content: Vec<u8>) -> Result<Self, String> {
        let config = LoraConfig::parse(config_json)?;
        let factors = read_factors(&content)?;
        let changes = pair(&config, factors)?;
        Ok(Self {
            config,
            content,
            changes,
        })
    }

    /// Highest rank of its modules.
    pub fn rank(&self) -> usize {
        let ranks = self.changes.values().map(|change| change.a.rows);
        ranks.max().unwrap_or(0)
    }

    /// Bytes that its matrices will take in memory, as [`Adapter::bytes`] says afterwards.
    pub fn packed_bytes(&self) -> u64 {
        self.tensors()
            .map(|tensor| tensor.packed_bytes() as u64)
            .sum()
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let changes = self.changes.values();
        changes.flat_map(|change| [&change.a, &change.b])
    }

    /// Checks that it has the modules that its configuration names for `base`, in the right sizes.
    pub fn check(&self, base: &AdapterBase) -> Result<(), String> {
        for (place, change) in &self.changes {
            if place.layer >= base.layers {
                let (name, layers) = (&change.a.name, base.layers);
                return Err(format!("tensor \"{name}\": the model has {layers} layers"));
            }
            let (outputs, inputs) = base.shape(place.module);
            change.a.check_size("columns", change.a.columns, inputs)?;
            change.b.check_size("rows", change.b.rows, outputs)?;
        }
        for layer in 0..base.layers {
            for module in Module::ALL {
                let place = Place { layer, module };
                if !self.changes.contains_key(&place) && self.config.covers(&place.path()) {
                    let path = place.path();
                    return Err(format!(
                        "\"target_modules\" covers \"{path}\", which is not in the file"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Packs it for `base`, for which [`PeftAdapter::check`] has found no fault, with the rows in the order of the
    /// base.
    pub fn fit(&self, base: &AdapterBase) -> Result<Adapter, NoMemory> {
        let sizes = self
            .tensors()
            .map(|tensor| Arena::part(tensor.packed_bytes()));
        let mut arena = Arena::of(sizes.sum());
        let layer = |_| [const { None }; Module::COUNT];
        let mut layers: Vec<_> = (0..base.layers).map(layer).collect();
        for (place, change) in &self.changes {
            let source_row = |row| base.source_row(place.module, row);
            layers[place.layer][place.module as usize] = Some(LowRank {
                a: self.pack(&mut arena, &change.a, |row| row)?,
                b: self.pack(&mut arena, &change.b, source_row)?,
                scale: change.scale,
            });
        }
        Ok(Adapter::new(layers))
    }

    fn pack(
        &self,
        arena: &mut Arena,
        tensor: &Tensor,
        source_row: impl Fn(usize) -> usize + Sync,
    ) -> Result<DenseMatrix, NoMemory> {
        let content = &self.content[tensor.bytes.clone()];
        let row_bytes = content.len() / tensor.rows;
        let read_rows = |rows: Range<usize>, bytes: &mut Vec<u8>| {
            bytes.clear();
            for row in rows {
                bytes.extend_from_slice(&content[source_row(row) * row_bytes..][..row_bytes]);
            }
            Ok(())
        };
        DenseMatrix::pack(arena, tensor.format, tensor.rows, tensor.columns, read_rows)
    }
}

impl Tensor {
    fn packed_bytes(&self) -> usize {
        DenseMatrix::bytes_of(self.format, self.rows, self.columns)
    }

    fn refuse(&self, reason: impl std::fmt::Display) -> String {
        format!("tensor \"{}\" {reason}", self.name)
    }

    fn check_size(&self, side: &str, actual: usize, expected: usize) -> Result<(), String> {
        match actual == expected {
            true => Ok(()),
            false => Err(self.refuse(format!("has {actual} {side}, {expected} are needed"))),
        }
    }

    fn check_values(&self, content: &[u8]) -> Result<(), String> {
        let block = self.format.block_bytes();
        let mut values = [0.0; CHECK_VALUES];
        for bytes in content[self.bytes.clone()].chunks(CHECK_VALUES * block) {
            let values = &mut values[..bytes.len() / block];
            self.format.unpack(bytes, values);
            if !values.iter().all(|value| value.is_finite()) {
                return Err(self.refuse("has values that are not finite"));
            }
        }
        Ok(())
    }
}

/// The tensors of the file by their places.
fn read_factors(content: &[u8]) -> Result<BTreeMap<(Place, Factor), Tensor>, String> {
    if is_pickle(content) {
        return Err("this is a pickle file; only safetensors files are read".into());
    }
    let length = content
        .first_chunk()
        .map(|bytes| u64::from_le_bytes(*bytes));
    if length.is_some_and(|length| length > HEADER_BYTES_MAX) {
        return Err("this is not a safetensors file: its header is too large".into());
    }
    let (header_bytes, metadata) = SafeTensors::read_metadata(content)
        .map_err(|error| format!("this is not a safetensors file: {error}"))?;
    // In the order of names, so that the first error is always the same one.
    let tensors = BTreeMap::from_iter(metadata.tensors());
    let mut factors = BTreeMap::new();
    for (name, info) in tensors {
        let key = tensor_name::parse(&name)?;
        let format = match info.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            other => {
                return Err(format!(
                    "tensor \"{name}\" has the format {other:?}; F32, F16 and BF16 are read"
                ));
            }
        };
        let [rows, columns] = info.shape[..] else {
            return Err(format!("tensor \"{name}\" is not a matrix"));
        };
        let (start, end) = info.data_offsets;
        // The bytes of the length and of the header come before the data.
        let data = header_bytes + 8;
        let tensor = Tensor {
            name,
            format,
            rows,
            columns,
            bytes: data + start..data + end,
        };
        if rows == 0 || columns == 0 {
            return Err(tensor.refuse("is empty"));
        }
        tensor.check_values(content)?;
        if let Some(other) = factors.insert(key, tensor) {
            return Err(other.refuse("occurs twice"));
        }
    }
    Ok(factors)
}

/// Whether Python would run what the file says: a pickle of protocol 2 to 5, or the zip archive that
/// torch.save makes of one. Where a safetensors header has a length that looks so, a brace follows.
fn is_pickle(content: &[u8]) -> bool {
    let is_marked = content.starts_with(b"PK\x03\x04") || matches!(content, [0x80, 2..=5, ..]);
    is_marked && content.get(8) != Some(&b'{')
}

/// Joins the factors and gives each pair its scale.
fn pair(
    config: &LoraConfig,
    mut factors: BTreeMap<(Place, Factor), Tensor>,
) -> Result<BTreeMap<Place, Change>, String> {
    let mut changes = BTreeMap::new();
    while let Some(((place, factor), first)) = factors.pop_first() {
        let path = place.path();
        if !config.covers(&path) {
            return Err(first.refuse("is not covered by \"target_modules\""));
        }
        let second = factors.remove(&(place, Factor::B));
        let (Factor::A, Some(b)) = (factor, second) else {
            return Err(first.refuse("has no counterpart: lora_A and lora_B go together"));
        };
        let a = first;
        b.check_size("columns", b.columns, a.rows)?;
        let scale = config.scale(&path, a.rows)?;
        if !scale.is_finite() {
            return Err(format!("the scale of \"{path}\" is not finite"));
        }
        changes.insert(place, Change { a, b, scale });
    }
    match changes.is_empty() {
        true => Err("the file has no tensors".into()),
        false => Ok(changes),
    }
}

#[cfg(test)]
#[path = "peft_tests.rs"]
mod tests;
