//! The seam between the scheduler and the computation of a language model.
//!
//! Above it (scheduler, block manager, grammar, sampling) nobody knows a tensor; below it nobody
//! knows a request. A step reads the tokens of many sequences at once: a *batch plan* says for each
//! sequence which tokens stand at which positions, in which blocks its keys and values lie, and
//! under which adapter it runs.

use std::ops::Range;
use std::sync::Arc;

use kernels::BlockId;

use crate::error::Error;
use crate::models::Adapter;

/// One step of the model over the tokens of many sequences.
pub struct BatchPlan<'a> {
    pub sequences: Vec<SequencePlan<'a>>,
    /// Asked between layers; true ends the step with [`Error::Cancelled`]. What the step has
    /// written to the blocks is then undefined.
    pub is_abandoned: &'a dyn Fn() -> bool,
}

/// The part of one sequence in a step.
#[derive(Clone, Copy)]
pub struct SequencePlan<'a> {
    /// At least one, each within the vocabulary.
    pub tokens: &'a [u32],
    /// Position of the first token; all before it have been read by earlier steps.
    pub position: usize,
    /// The blocks of positions 0, 16, 32 and so on, up to the last token. Blocks of earlier tokens
    /// may be shared with other sequences; those the step writes to are not.
    pub blocks: &'a [BlockId],
    /// None: the base model.
    pub adapter: Option<&'a Arc<Adapter>>,
    pub logits: LogitsOf,
}

/// For which tokens of a sequence the scores of the next token are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsOf {
    Nothing,
    LastToken,
    /// For perplexity and tests.
    EveryToken,
}

/// The weights of a model and its pool of keys and values.
///
/// The scores of a token depend on the tokens before it, the weights and the adapter alone, bit for
/// bit: not on the other sequences of the step, nor on how a prompt is cut into steps.
pub trait LanguageModel: Send {
    /// Most tokens of one sequence.
    fn tokens_max(&self) -> usize;

    /// Number of entries of the vocabulary.
    fn vocabulary(&self) -> usize;

    /// Bytes of one block of keys and values.
    fn kv_block_bytes(&self) -> usize;

    /// Makes the pool; blocks 0 to `blocks` - 1 may be used afterwards.
    fn reserve_kv(&mut self, blocks: usize) -> Result<(), Error>;

    /// Runs a step. Replaces `scores` by one row (vocabulary entries) per token for which they are
    /// wanted, in the order of the plan and one behind the other. A row may hold values that are not
    /// numbers, when an adapter makes the computation overflow; other rows are not touched by that.
    fn forward(&mut self, plan: &BatchPlan<'_>, scores: &mut Vec<f32>) -> Result<(), Error>;
}

impl BatchPlan<'_> {
    /// Numbers of the tokens whose scores are wanted, counted over the whole step.
    pub fn wanted_rows(&self) -> Vec<usize> {
        let mut wanted = Vec::new();
        let mut first = 0;
        for sequence in &self.sequences {
            let end = first + sequence.tokens.len();
            match sequence.logits {
                LogitsOf::Nothing => {}
                LogitsOf::LastToken => wanted.push(end - 1),
                LogitsOf::EveryToken => wanted.extend(first..end),
            }
            first = end;
        }
        wanted
    }

    /// The rows of neighbouring sequences under the same adapter, and the adapter (SGMV, Punica,
    /// arXiv 2310.18547).
    pub fn adapter_segments(&self) -> impl Iterator<Item = (Range<usize>, Option<&Adapter>)> {
        let mut first = 0;
        let segments = self
            .sequences
            .chunk_by(|a, b| a.adapter_id() == b.adapter_id());
        segments.map(move |segment| {
            let tokens: usize = segment.iter().map(|sequence| sequence.tokens.len()).sum();
            let rows = first..first + tokens;
            first = rows.end;
            (rows, segment[0].adapter.map(Arc::as_ref))
        })
    }
}

impl SequencePlan<'_> {
    /// Equal for sequences that run under the same adapter.
    pub fn adapter_id(&self) -> Option<usize> {
        self.adapter.map(|adapter| Arc::as_ptr(adapter).addr())
    }
}
