//! Process tests: the real binary on a Unix socket, with real models.
//!
//! Models come from SALESAI_EMBEDDING_MODEL (a directory), SALESAI_LANGUAGE_MODEL (a GGUF file) and
//! SALESAI_LLAMA31_TOKENIZER (a directory), else from `.salesai/models` of the checkout. A test whose
//! model is absent says so and passes.

// Helpers outside of test functions may fail a test as well.
#![allow(clippy::unwrap_used)]

mod cases;
