//! Starts the server, asks a running one whether it is ready, reviews a configuration, or measures.

#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use inference_sidecar::config::{self, Action, CommandLine, Config, DEFAULT_FILE};
use inference_sidecar::{bench, documents, readiness, server, telemetry, threads};
use tikv_jemallocator::Jemalloc;

/// Gives back within seconds what a burst of requests took; that of glibc keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> anyhow::Result<()> {
    match CommandLine::parse().action()? {
        Action::Serve(config) => serve(config),
        Action::CheckReady(socket) => block_on(async move {
            let ready = readiness::check(&socket).await;
            ready.map_err(anyhow::Error::msg)
        }),
        Action::CheckConfig(config) => check_config(&config),
        Action::PrintConfig => {
            print!("{DEFAULT_FILE}");
            Ok(())
        }
        Action::ReadDocument(arguments) => documents::run(&arguments),
        Action::Bench(arguments) => block_on(bench::run(arguments)),
    }
}

fn serve(config: Box<Config>) -> anyhow::Result<()> {
    config::check_memory(&config)?;
    threads::set(config.threads, config.cpus.as_ref())?;
    telemetry::start(&config.log)?;
    block_on(async {
        server::run(*config)
            .await
            .context("run the inference sidecar")
    })
}

fn check_config(config: &Config) -> anyhow::Result<()> {
    let review = config::review(config);
    review.plan.iter().for_each(|line| println!("{line}"));
    for problem in &review.problems {
        eprintln!("problem: {problem}");
    }
    anyhow::ensure!(
        review.problems.is_empty(),
        "the configuration is not usable"
    );
    println!("the configuration is usable");
    Ok(())
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The models have threads of their own; these two only move bytes.
        .worker_threads(2)
        .thread_name("grpc")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let outcome = runtime.block_on(work);
    // Tokenising cannot be interrupted; a stopping server does not wait for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
