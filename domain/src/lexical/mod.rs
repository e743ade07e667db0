//! Lexical ranking: BM25 over posting lists whose blocks know their greatest impact, so that the best documents are found
//! without reading the others.
//!
//! - [`bm25`]: the score
//! - [`posting_list`]: what a term's list holds, as bytes
//! - [`retrieval`]: the best documents of some lists
//! - [`term_counts`]: how often a document says what, from PostgreSQL's `tsvector`
//! - [`query`]: what a user wrote

pub mod bm25;
pub mod posting_list;
pub mod query;
pub mod retrieval;
pub mod term_counts;

pub use bm25::{Collection, Norms, Parameters, idf};
pub use posting_list::{Directory, Posting, PostingList, decode, encode};
pub use query::{Query, parse_query};
pub use retrieval::{ReadPostings, Term, search};
pub use term_counts::{FieldBoosts, term_counts, term_counts_of};

/// Bytes that are no posting list, or no `tsvector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lexical index is damaged")]
pub struct Damaged;
