//! A fixed random rotation: signs and Hadamard transforms in turn, over the first and the last power of two of the
//! dimensions (as in the library of RaBitQ; the fast transform after Ailon and Chazelle, STOC 2006).

/// Transforms in turn.
const ROUNDS: usize = 4;

/// Turns the vector, whose length is a multiple of 64. The same for all time: codes that are stored depend on it.
pub(super) fn rotate(vector: &mut [f32]) {
    let length = 1 << vector.len().ilog2();
    let scale = 1.0 / (length as f32).sqrt();
    let mut signs = Signs(0x5a1e_5a1c_0de5_0001);
    for round in 0..ROUNDS {
        let start = match round % 2 {
            0 => 0,
            _ => vector.len() - length,
        };
        let part = &mut vector[start..start + length];
        for value in &mut *part {
            *value *= signs.next() * scale;
        }
        transform(part);
    }
}

/// The Walsh-Hadamard transform, in place; the length is a power of two.
fn transform(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// Signs by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Signs(u64);

impl Signs {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        match bits & 1 {
            0 => 1.0,
            _ => -1.0,
        }
    }
}
