//! A linear layer, in the precision that the model is loaded with.

use kernels::{
    Activation, Arena, Finish, HalfRows, Level, NoMemory, PackedMatrix, Panels, Pool, Product,
    QuantizedRows, Write, make_rows, multiply, project,
};

use crate::models::Matrix;

/// What the linear layers compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BertPrecision {
    Bf16,
    /// Weights and activations in 8 bits, where 32 values share a scale.
    Int8,
}

/// Layers over the same inputs, whose results lie side by side.
pub(super) enum Linear {
    Half(Panels),
    /// Outputs × inputs, and one value of bias for each output.
    Byte(PackedMatrix, Vec<f32>),
}

/// The inputs of a layer, rounded; the buffers are kept from step to step.
#[derive(Default)]
pub(super) struct Rounded {
    halves: HalfRows,
    bytes: QuantizedRows,
}

impl BertPrecision {
    /// Whether layers of such widths can be computed.
    pub(super) fn fits(self, width: usize) -> bool {
        match self {
            Self::Bf16 => true,
            // The blocks of 32 values, and whole vectors of outputs side by side.
            Self::Int8 => width.is_multiple_of(32),
        }
    }
}

impl Linear {
    /// Each layer has its weights and bias.
    pub(super) fn pack(
        arena: &mut Arena,
        precision: BertPrecision,
        layers: &[(Matrix, Vec<f32>)],
    ) -> Result<Self, NoMemory> {
        if precision == BertPrecision::Bf16 {
            return Ok(Self::Half(Panels::pack(layers)));
        }
        let weights: Vec<&Matrix> = layers.iter().map(|(weights, _)| weights).collect();
        let bias = layers.iter().flat_map(|(_, bias)| bias).copied();
        let matrix = PackedMatrix::quantize(arena, &weights)?;
        Ok(Self::Byte(matrix, bias.collect()))
    }

    /// The results for each row of `rows`.
    pub(super) fn apply(
        &self,
        (pool, level): (&Pool, Level),
        rows: &[f32],
        rounded: &mut Rounded,
        results: &mut [f32],
        finish: Finish,
    ) {
        let Rounded { halves, bytes } = rounded;
        match self {
            Self::Half(panels) => {
                halves.set(pool, level, rows, panels.width());
                project(pool, level, panels, halves, results, finish);
            }
            Self::Byte(matrix, bias) => {
                bytes.set(pool, level, rows, matrix.columns());
                let write = match finish {
                    Finish::Add => Write::Add,
                    Finish::Replace | Finish::Activate(_) => Write::Replace,
                };
                let product = Product::quantized(matrix, bytes, results, write).with_bias(bias);
                multiply(pool, level, &mut [product]);
                if let Finish::Activate(activation) = finish {
                    activate(pool, level, activation, results, matrix.rows());
                }
            }
        }
    }
}

fn activate(
    pool: &Pool,
    level: Level,
    activation: Activation,
    results: &mut [f32],
    columns: usize,
) {
    let activate = |_, row: &mut [f32]| activation.apply(level, row);
    make_rows(pool, results, columns, activate);
}
