//! Starts the server, or with `--check` asks a running one whether it is ready.

#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use inference_sidecar::config::Config;
use inference_sidecar::{readiness, server, telemetry};

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The models have threads of their own; these two only move bytes.
        .worker_threads(2)
        .thread_name("grpc")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let outcome = if config.check {
        runtime
            .block_on(readiness::check(&config.socket))
            .map_err(anyhow::Error::msg)
    } else {
        telemetry::start(&config.log)?;
        runtime
            .block_on(server::run(config))
            .context("run the inference sidecar")
    };
    // Tokenising cannot be interrupted; a stopping server does not wait for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
