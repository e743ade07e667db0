//! Reads all that a weight file offers: for bytes that are not what they should be, where the only
//! expectation is an answer. The fuzz targets use it too.

use std::path::Path;

use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::safetensors_model::{LlamaConfig, WeightFile, WeightIndex};

/// Every entry as every kind, every tensor with its own and with a wrong shape.
pub fn gguf(bytes: Vec<u8>) -> Result<(), Error> {
    let file = GgufFile::parse(bytes, Path::new("test.gguf"))?;
    for key in file.keys() {
        let answers = [
            file.count(key).is_ok(),
            file.number(key).is_ok(),
            file.text(key).is_ok(),
            file.flag(key).is_ok(),
        ];
        assert!(answers.into_iter().filter(|is_ok| *is_ok).count() <= 1);
        let texts = file.texts(key).map_or(0, |texts| texts.len());
        let codes = file.codes(key).map_or(0, |codes| codes.len());
        assert!(texts == 0 || codes == 0);
    }
    for (name, [columns, rows, rest @ ..]) in file.tensors() {
        assert!(file.has_tensor(name));
        assert!(file.matrix(name, rows, columns + 1).is_err());
        if let Ok(matrix) = file.matrix(name, rows, columns) {
            assert_eq!(matrix.to_f32().len(), rows * columns);
        } else {
            assert_ne!(rest, [1, 1]);
        }
        assert_eq!(
            file.vector(name, columns).is_ok(),
            rows == 1 && rest == [1, 1]
        );
    }
    file.weight_count();
    Ok(())
}

/// Every tensor with its own and with a wrong shape.
pub fn safetensors(bytes: Vec<u8>) -> Result<(), Error> {
    let file = WeightFile::parse(bytes, Path::new("test.safetensors"))?;
    for (name, shape) in file.tensors() {
        assert!(file.has_tensor(&name));
        let is_read = match *shape {
            [length] => file.vector(&name, length).map(|values| values.len()),
            [rows, columns] => file
                .matrix(&name, rows, columns)
                .map(|matrix| matrix.to_f32().len()),
            _ => file.vector(&name, 1).map(|values| values.len()),
        };
        if let Ok(weights) = is_read {
            assert_eq!(weights, shape.iter().product::<usize>());
        }
        assert!(file.matrix(&name, 3, usize::MAX).is_err());
    }
    Ok(())
}

/// The two JSON files beside safetensors weights.
pub fn model_json(bytes: &[u8]) {
    if let Ok(config) = LlamaConfig::parse(bytes) {
        assert!(config.heads.is_multiple_of(config.kv_heads));
        assert!(config.rope_base.is_finite() && config.norm_epsilon > 0.0);
    }
    if let Ok(index) = WeightIndex::parse(bytes) {
        let names = index.file_names();
        assert!(!names.is_empty() && names.iter().all(|name| !name.contains(['/', '\\'])));
    }
}
