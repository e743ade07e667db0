//! Vectors to codes.

use super::{CodeShape, GROUP_VECTORS, HEAD_BYTES, length};

/// The step between the four values of a dimension, in standard deviations of it (Max, "Quantizing for Minimum
/// Distortion", 1960).
const STEP: f32 = 0.9957;

/// Makes codes around a centre.
pub struct Encoder {
    shape: CodeShape,
    centre: Vec<f32>,
}

impl Encoder {
    /// `centre`: the mean of the vectors' directions, or of a good part of them; of the shape's dimensions.
    pub fn new(shape: CodeShape, centre: Vec<f32>) -> Self {
        assert_eq!(centre.len(), shape.dimensions);
        Self { shape, centre }
    }

    /// Adds a group of at most sixteen vectors with their ids; places that stay free have the id 0 and match nothing.
    /// Of a vector only its direction counts.
    pub fn encode(&self, vectors: &[(i64, &[f32])], groups: &mut Vec<u8>) {
        assert!(vectors.len() <= GROUP_VECTORS);
        let start = groups.len();
        groups.resize(start + self.shape.group_bytes(), 0);
        let (head, planes) = groups[start..].split_at_mut(HEAD_BYTES);
        let (ids, numbers) = head.split_at_mut(8 * GROUP_VECTORS);
        let mut set = |column: usize, vector: usize, value: f32| {
            let at = 4 * (column * GROUP_VECTORS + vector);
            numbers[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        for place in 0..GROUP_VECTORS {
            let Some((id, vector)) = vectors.get(place) else {
                set(0, place, f32::NEG_INFINITY);
                continue;
            };
            ids[8 * place..8 * (place + 1)].copy_from_slice(&id.to_le_bytes());
            let code = self.code(vector);
            set(0, place, code.with_centre);
            set(1, place, code.factor);
            set(2, place, code.error);
            let (upper, lower) = planes.split_at_mut(self.shape.plane_bytes());
            for (dimension, level) in code.levels.into_iter().enumerate() {
                let at = dimension / 8 * GROUP_VECTORS + place;
                upper[at] |= (level >> 1) << (dimension % 8);
                lower[at] |= (level & 1) << (dimension % 8);
            }
        }
    }

    fn code(&self, vector: &[f32]) -> Code {
        let (turned, with_centre) = self.shape.around(&self.centre, vector);
        let distance = length(&turned);
        let step = STEP * distance / (turned.len() as f32).sqrt();
        if step <= 0.0 {
            // It lies in the centre.
            return Code {
                with_centre,
                factor: 0.0,
                error: 0.0,
                levels: vec![0; turned.len()],
            };
        }
        let levels: Vec<u8> = turned
            .iter()
            .map(|value| ((value / step).floor() + 2.0).clamp(0.0, 3.0) as u8)
            .collect();
        let (mut product, mut squares) = (0.0, 0.0);
        for (&level, value) in levels.iter().zip(&turned) {
            let rounded = f32::from(level) - 1.5;
            product += rounded * value;
            squares += rounded * rounded;
        }
        // The cosine of the vector and its code.
        let cosine = product / (distance * squares.sqrt());
        let sine = (1.0 - cosine * cosine).max(0.0).sqrt();
        Code {
            with_centre,
            factor: distance * distance / product,
            error: distance * sine / cosine / ((turned.len() - 1) as f32).sqrt(),
            levels,
        }
    }
}

/// A vector's code. With a query q around the centre c, turned as the vector x is, `factor` times the sum of
/// q's values times levels (less 1.5) estimates ⟨x − c, q − c⟩, with a standard deviation of `error` times the length
/// of q − c (RaBitQ, theorem 3.2).
struct Code {
    with_centre: f32,
    factor: f32,
    error: f32,
    /// 0 to 3.
    levels: Vec<u8>,
}
