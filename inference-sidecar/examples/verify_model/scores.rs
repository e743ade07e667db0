//! From scores to probabilities.

/// Logarithms of the probabilities of all tokens.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - highest).exp())
        .sum();
    logits
        .iter()
        .map(|&logit| f64::from(logit) - highest - total.ln())
        .collect()
}
