//! Sums of products in a fixed order: lane by lane along the vectors, then over the lanes.

use pulp::Simd;

/// The dot products of `R` weight rows with `T` activation rows, all of the same length.
#[inline(always)]
pub(super) fn dots<S: Simd, const R: usize, const T: usize>(
    simd: S,
    weights: [&[f32]; R],
    activations: [&[f32]; T],
) -> [[f32; T]; R] {
    let length = weights[0].len();
    let parts_w = weights.map(|row| S::as_simd_f32s(&row[..length]));
    let parts_x = activations.map(|row| S::as_simd_f32s(&row[..length]));
    let mut sums = [[simd.splat_f32s(0.0); T]; R];
    let count = parts_w[0].0.len();
    let w = parts_w.map(|(vectors, _)| &vectors[..count]);
    let x = parts_x.map(|(vectors, _)| &vectors[..count]);
    for k in 0..count {
        for t in 0..T {
            for r in 0..R {
                sums[r][t] = simd.mul_add_f32s(w[r][k], x[t][k], sums[r][t]);
            }
        }
    }
    let mut result = [[0.0; T]; R];
    for r in 0..R {
        for t in 0..T {
            let mut sum = sums[r][t];
            if !parts_w[r].1.is_empty() {
                let tail_w = simd.partial_load_f32s(parts_w[r].1);
                let tail_x = simd.partial_load_f32s(parts_x[t].1);
                sum = simd.mul_add_f32s(tail_w, tail_x, sum);
            }
            result[r][t] = simd.reduce_sum_f32s(sum);
        }
    }
    result
}
