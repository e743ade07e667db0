//! Cited answers: what is shown to the model, and which of its words may reach the reader.
//!
//! **Invariant:** a claim leaves this module only with a quote that is word for word in its evidence.

mod answers;
mod citation;
mod contradiction;
mod draft;
mod evidence;
mod extraction;
mod packing;
mod prompt;
mod queries;
mod scoring;
mod sentence_index;
mod stated_values;
mod verification;
mod weighing;

pub use answers::{Abstention, Answer, AnswerMethod, Claim, Objection, Standing};
pub use citation::{Citation, locate_quote};
pub use contradiction::Order;
pub use evidence::{Evidence, EvidenceSegment};
pub use extraction::{evidence_sentences, extract_answer, is_related};
pub use packing::{PromptRoom, countable_texts, pack_evidence};
pub use prompt::{Prompt, build_prompt};
pub use queries::focused_queries;
pub use verification::{
    CLAIMS_MAX, judge_answer, settled_claims, settled_sentences, verify_answer,
};
pub use weighing::{weigh_answer, weigh_claims};
