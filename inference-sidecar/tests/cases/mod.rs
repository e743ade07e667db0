//! One module per topic; `sidecar` starts and stops the server for all of them.

mod adapter_values;
mod adapters;
mod cancellation;
mod embeddings;
mod generation;
mod lifecycle;
mod logits;
mod model_files;
mod peft_fixture;
mod prompts;
mod sidecar;
mod texts;
