//! One module per topic; `sidecar` starts and stops the server for all of them.
//! `bert_builder`, `gguf_builder`, `safetensors_builder` write small models, `damage` spoils them.

mod adapter_values;
mod adapters;
mod bert_builder;
mod cancellation;
mod damage;
mod embeddings;
mod generation;
mod gguf_builder;
mod gguf_files;
mod lifecycle;
mod logits;
mod model_files;
mod operating;
mod peft_fixture;
mod prompts;
mod safetensors_builder;
mod safetensors_files;
mod schemas;
mod sidecar;
mod texts;
mod vocabularies;
mod whole_reading;
