//! One module per topic; `sidecar` starts and stops the server for all of them.
//! `bert_builder`, `gguf_builder`, `safetensors_builder` write small models, `damage` spoils them.

mod adapter_logits;
mod adapter_values;
mod adapters;
mod batching;
mod bert_builder;
mod cancellation;
mod damage;
mod embeddings;
mod forward;
mod generation;
mod gguf_builder;
mod gguf_files;
mod lifecycle;
mod logits;
mod model_files;
mod mutual_tls;
mod operating;
mod overload;
mod peft_fixture;
mod prompts;
mod router;
mod routing_loops;
mod safetensors_builder;
mod safetensors_files;
mod schema_answers;
mod schemas;
mod scripted_server;
mod sidecar;
mod smol_adapter;
mod texts;
mod tiny_llama;
mod tiny_model;
mod tiny_safetensors;
mod vocabularies;
mod whole_reading;
