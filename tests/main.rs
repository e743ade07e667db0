//! The whole system: what only several real processes together can show. One module per topic.
//! Run by `make test`; each test takes turns (`--test-threads=1`), because some count what a server does.

mod adapters;
mod attacks;
mod bad_input;
mod batching;
mod cancel;
mod cascades;
mod crash;
mod doctor;
mod document_ingestion;
mod documents;
mod drivers;
mod dump_restore;
mod embedding_sets;
mod end_to_end;
mod explain;
mod generation;
mod golden;
mod ingestion;
mod insight;
mod lexical_index;
mod logs;
mod memory;
mod metrics;
mod no_snapshot;
mod operators;
mod queue;
mod real_input;
mod redaction;
mod result_cache;
mod rights;
mod search;
mod sidecar_down;
mod streams;
mod submitted;
mod upgrade;
