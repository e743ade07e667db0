//! One module per topic; `sidecar` starts and stops the server for all of them.

mod cancellation;
mod embeddings;
mod generation;
mod lifecycle;
mod logits;
mod model_files;
mod mutual_tls;
mod prompts;
mod router;
mod scripted_server;
mod sidecar;
mod texts;
