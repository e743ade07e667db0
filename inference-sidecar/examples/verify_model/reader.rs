//! Reads a text through a model and hands out the scores after each token.

use std::io::Write;

use inference_sidecar::error::Error;
use inference_sidecar::models::{
    BatchPlan, BlockId, KV_BLOCK_TOKENS, LanguageModel, LogitsOf, SequencePlan,
};

/// Tokens of a step: a Llama 3.1 answers with 33 MB of scores.
const STEP_TOKENS: usize = 64;

/// Calls `each` with the position of every token and the scores of the token after it.
pub fn read(
    model: &mut impl LanguageModel,
    tokens: &[u32],
    mut each: impl FnMut(usize, &[f32]),
) -> Result<(), Error> {
    let blocks = tokens.len().div_ceil(KV_BLOCK_TOKENS);
    model.reserve_kv(blocks)?;
    let blocks: Vec<BlockId> = (0u32..).take(blocks).map(BlockId).collect();
    for (index, step) in tokens.chunks(STEP_TOKENS).enumerate() {
        let position = index * STEP_TOKENS;
        let end = position + step.len();
        let plan = BatchPlan {
            sequences: vec![SequencePlan {
                tokens: step,
                position,
                blocks: &blocks[..end.div_ceil(KV_BLOCK_TOKENS)],
                adapter: None,
                logits: LogitsOf::EveryToken,
            }],
            is_abandoned: &|| false,
        };
        let mut scores = Vec::new();
        model.forward(&plan, &mut scores)?;
        for (row, logits) in scores.chunks_exact(model.vocabulary()).enumerate() {
            each(position + row, logits);
        }
        eprint!("\rread {end} of {} tokens", tokens.len());
        // Progress is a courtesy: nobody need be there to see it.
        let _ = std::io::stderr().flush();
    }
    eprintln!();
    Ok(())
}
