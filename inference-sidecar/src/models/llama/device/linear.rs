//! A weight matrix as a tensor of candle on a device.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module as _, Tensor};
use kernels::DenseMatrix;

use crate::error::Error;
use crate::models::{Format, LowRank, Matrix};

/// A matrix that is multiplied with activations (tokens × inputs).
pub(super) struct Linear(QMatMul);

/// The vectors of the vocabulary.
pub(super) struct Embedding(Arc<QTensor>);

impl Linear {
    pub(super) fn new(matrix: &Matrix, device: &Device) -> Result<Self, Error> {
        Ok(Self(QMatMul::from_qtensor(on_device(matrix, device)?)?))
    }

    /// Tokens × outputs.
    pub(super) fn apply(&self, activations: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(activations)
    }
}

impl Embedding {
    pub(super) fn new(vectors: &Matrix, device: &Device) -> Result<Self, Error> {
        Ok(Self(Arc::new(on_device(vectors, device)?)))
    }

    /// One vector per token.
    pub(super) fn look_up(&self, tokens: &[u32], device: &Device) -> candle_core::Result<Tensor> {
        self.0.embedding(&Tensor::new(tokens, device)?)
    }
}

/// scale · B (A x) for tokens × inputs: what an adapter adds to a linear layer.
pub(super) fn low_rank(change: &LowRank, activations: &Tensor) -> candle_core::Result<Tensor> {
    let scale = f64::from(change.scale);
    let on_device = |matrix: &DenseMatrix| {
        let shape = (matrix.rows(), matrix.columns());
        Tensor::from_vec(matrix.to_f32(), shape, activations.device())?.t()
    };
    let narrow = activations.matmul(&on_device(&change.a)?)?;
    narrow.matmul(&on_device(&change.b)?)? * scale
}

fn on_device(matrix: &Matrix, device: &Device) -> candle_core::Result<QTensor> {
    let storage = QStorage::from_data(
        Cow::Borrowed(matrix.bytes()),
        device,
        candle_format(matrix.format),
    )?;
    QTensor::new(storage, (matrix.rows, matrix.columns))
}

fn candle_format(format: Format) -> GgmlDType {
    match format {
        Format::F32 => GgmlDType::F32,
        Format::F16 => GgmlDType::F16,
        Format::Bf16 => GgmlDType::BF16,
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q4K => GgmlDType::Q4K,
        Format::Q5K => GgmlDType::Q5K,
        Format::Q6K => GgmlDType::Q6K,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each format unpacks to exactly what candle, an independent reader, makes of the bytes.

    use candle_core::Device;
    use candle_core::quantized::QTensor;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn formats_unpack_as_in_candle() {
        let mut random = StdRng::seed_from_u64(1);
        for format in Format::ALL {
            let weights: Vec<f32> = (0..1024).map(|_| random.random_range(-3.0..3.0)).collect();
            let tensor = candle_core::Tensor::new(weights.as_slice(), &Device::Cpu).unwrap();
            let packed = QTensor::quantize(&tensor, candle_format(format)).unwrap();
            let expected = packed
                .dequantize(&Device::Cpu)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let bytes = packed.data().unwrap();
            assert_eq!(bytes.len(), format.row_bytes(1024).unwrap(), "{format:?}");
            let mut unpacked = vec![0.0; 1024];
            format.unpack(&bytes, &mut unpacked);
            for (a, b) in unpacked.iter().zip(&expected) {
                assert!(
                    (a - b).abs() <= 1e-6 * b.abs().max(1.0),
                    "{format:?}: {a} {b}"
                );
            }
        }
    }
}
