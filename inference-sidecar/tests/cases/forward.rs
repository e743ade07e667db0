//! Reads given tokens through a model, the way a scheduler would, for the tests of the numbers.

use inference_sidecar::models::{
    BatchPlan, BlockId, KV_BLOCK_TOKENS, LanguageModel, LogitsOf, SequencePlan,
};

/// Tokens of a step; no multiple of a block, so that steps end within blocks.
const STEP_TOKENS: usize = 250;

/// The logits after the tokens at `positions`, which ascend.
pub fn logits(
    model: &mut impl LanguageModel,
    tokens: &[u32],
    positions: &[usize],
) -> Vec<Vec<f32>> {
    let blocks = tokens.len().div_ceil(KV_BLOCK_TOKENS);
    model.reserve_kv(blocks).unwrap();
    let blocks: Vec<BlockId> = (0..blocks as u32).map(BlockId).collect();
    let mut wanted = Vec::new();
    for (index, tokens) in tokens.chunks(STEP_TOKENS).enumerate() {
        let position = index * STEP_TOKENS;
        let end = position + tokens.len();
        let within = positions.iter().filter(|p| (position..end).contains(p));
        let within: Vec<usize> = within.map(|p| p - position).collect();
        let plan = BatchPlan {
            sequences: vec![SequencePlan {
                tokens,
                position,
                blocks: &blocks[..end.div_ceil(KV_BLOCK_TOKENS)],
                adapter: None,
                logits: match within.is_empty() {
                    true => LogitsOf::Nothing,
                    false => LogitsOf::EveryToken,
                },
            }],
            is_abandoned: &|| false,
        };
        let mut scores = Vec::new();
        model.forward(&plan, &mut scores).unwrap();
        let rows: Vec<&[f32]> = scores.chunks_exact(model.vocabulary()).collect();
        wanted.extend(within.into_iter().map(|row| rows[row].to_vec()));
    }
    assert_eq!(wanted.len(), positions.len());
    wanted
}

/// Logarithms of the probabilities of all tokens.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&l| (f64::from(l) - highest).exp()).sum();
    let value = |&logit: &f32| f64::from(logit) - highest - total.ln();
    logits.iter().map(value).collect()
}
