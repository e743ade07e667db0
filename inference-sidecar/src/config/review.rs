//! What `--check-config` looks at beyond the syntax: files, directories, memory, the log filter.

use std::fs::File;
use std::path::Path;

use tracing_subscriber::EnvFilter;

use crate::router::{Router, tls};
use crate::threads;

use super::{BertModelConfig, Config, LanguageModelConfig, MetricsAddress, check_memory};

/// What would run, and all that stands against it.
#[derive(Debug, Default)]
pub struct Review {
    /// One line per thing that would run.
    pub plan: Vec<String>,
    /// One line per problem; empty when the server can start as far as one can tell without starting.
    pub problems: Vec<String>,
}

/// Reviews a configuration that passed [`Config::check`]; opens files and reads none of them.
pub fn review(config: &Config) -> Review {
    let mut review = Review::default();
    review.sockets(config);
    for model in &config.embedding_models {
        review.bert_model("embedding", model);
    }
    for model in &config.reranking_models {
        review.bert_model("reranking", model);
    }
    for model in &config.language_models {
        review.language_model(config, model);
    }
    review.others(config);
    review.plan.push(format!(
        "each language model: {} sequences, {} tokens per step, {} MiB of keys and values in {}",
        config.sequences_max, config.batch_tokens_max, config.kv_mib, config.kv_cache_dtype
    ));
    review.plan.push(format!(
        "at most {} waiting requests; {} adapters of rank {} in {} MiB; {}",
        config.queue_size,
        config.adapters_max,
        config.adapter_rank_max,
        config.adapter_mib,
        match config.threads {
            0 if config.cpus.is_some() => "one thread for each processor of cpus".to_owned(),
            0 => "one thread per core".to_owned(),
            threads => format!("{threads} threads"),
        }
    ));
    if let Some(cpus) = &config.cpus {
        review.plan.push(format!("on the processors {cpus}"));
        if let Err(error) = threads::check(cpus) {
            review.problems.push(error.to_string());
        }
    }
    if let Err(error) = check_memory(config) {
        review.problems.push(error.to_string());
    }
    if EnvFilter::try_new(&config.log).is_err() {
        review
            .problems
            .push("\"log\" is no filter of tracing".into());
    }
    review
}

impl Review {
    /// Routes to other servers, and serving over TCP.
    fn others(&mut self, config: &Config) {
        for route in &config.routes {
            let count = route.upstreams.len();
            self.plan
                .push(format!("route \"{}\": {count} upstreams", route.model));
        }
        if let Err(error) = Router::new(&config.router()) {
            self.problems.push(error.to_string());
        }
        let tls = config.server_tls().map(|files| tls::server_config(&files));
        if let Some(Err(error)) = tls {
            self.problems.push(error.to_string());
        }
    }

    fn sockets(&mut self, config: &Config) {
        self.plan.push(format!("serves on {:?}", config.socket));
        self.parent_of("socket", &config.socket);
        match &config.metrics_listen {
            None => self.plan.push("serves no metrics".into()),
            Some(address) => {
                self.plan.push(format!("serves metrics on {address}"));
                if let MetricsAddress::Unix(path) = address {
                    self.parent_of("metrics_listen", path);
                }
            }
        }
    }

    /// `kind`: what it is for.
    fn bert_model(&mut self, kind: &str, model: &BertModelConfig) {
        let name = &model.name;
        self.plan.push(format!(
            "{kind} model \"{name}\" from {:?} in {}",
            model.path, model.quantization
        ));
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            self.readable(name, &model.path.join(file));
        }
    }

    fn language_model(&mut self, config: &Config, model: &LanguageModelConfig) {
        let (name, path) = (&model.name, &model.path);
        let context_tokens = config.context_tokens_of(model);
        self.plan.push(format!(
            "language model \"{name}\" from {path:?} on {}, at most {context_tokens} tokens",
            model.device
        ));
        if path.is_dir() {
            self.readable(name, &path.join("config.json"));
            self.readable(name, &path.join("tokenizer.json"));
        } else {
            self.readable(name, path);
        }
    }

    fn readable(&mut self, model: &str, path: &Path) {
        let opened = File::open(path).and_then(|file| file.metadata());
        match opened {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => self
                .problems
                .push(format!("model \"{model}\": {path:?} is not a file")),
            Err(error) => self.problems.push(format!(
                "model \"{model}\": could not read {path:?}: {error}"
            )),
        }
    }

    fn parent_of(&mut self, key: &str, path: &Path) {
        // A path without a directory part lies in the working directory.
        let is_there = path
            .parent()
            .is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir());
        if !is_there {
            self.problems
                .push(format!("\"{key}\": the directory of {path:?} is not there"));
        }
    }
}
