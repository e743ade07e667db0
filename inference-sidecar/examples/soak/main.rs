//! Many streams against a real sidecar for minutes: no wrong output, no leak, no stall.
//!
//! `soak SIDECAR MODEL.gguf MINUTES [STREAMS] [SEED]` starts the binary SIDECAR with SmolLM2-135M, takes
//! the reference answers one at a time, then lets STREAMS callers (64 unless said) ask, cancel, run into
//! deadlines and ask for JSON, while adapters are replaced and dropped under them. It prints a summary
//! and fails when one of these does not hold:
//!
//! - each complete greedy answer equals the reference; a cut one is its beginning
//! - each answer under a schema is valid, or the call says that `tokens_max` was too few
//! - no call fails for a reason that the driver did not cause
//! - no open stream is silent for longer than [`STALL_LIMIT`]
//! - afterwards no request runs and no block of keys and values is held
//! - the resident size at the end is within [`summary::GROWTH_MAX`] of that after a quarter of the time
//!   (by then every part has been used)

mod adapters;
mod callers;
mod reference;
mod requests;
mod server;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use adapters::AdapterPool;
use callers::Caller;
use reference::References;
use server::{CALL_LIMIT, Server};
use summary::{Memory, Tally};

/// The longest silence of an open stream that is no stall: with 64 streams on two cores, a step with
/// prompts of many takes seconds.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How long the server may take to let go of everything after the last stream.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
const STREAMS_DEFAULT: usize = 64;
/// Room for a good part of 64 sequences, so that some are preempted, and for two of the three adapters,
/// so that some are evicted.
const KV_MIB: u64 = 128;
const ADAPTERS_MAX: u32 = 2;

/// What the command line says.
struct Options {
    sidecar: PathBuf,
    model: PathBuf,
    duration: Duration,
    streams: usize,
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = options()?;
    let settings = format!("kv_mib = {KV_MIB}\nadapters_max = {ADAPTERS_MAX}\n");
    let server = Server::start(&options.sidecar, &options.model, &settings).await?;
    let outcome = soak(&options, &server).await;
    if outcome.is_err() {
        eprintln!("the end of the sidecar's log:\n{}", server.log_tail());
    }
    outcome
}

async fn soak(options: &Options, server: &Server) -> anyhow::Result<()> {
    let started = server.status().await?;
    let adapters = Arc::new(AdapterPool::new(options.seed));
    let references = Arc::new(References::take(server, &adapters).await?);
    println!("references: {} answers taken alone", references.count());
    let start = server.status().await?;

    let end = Instant::now() + options.duration;
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let (client, adapters, tally) = (server.client().await?, adapters.clone(), tally.clone());
        let seed = options.seed;
        async move { adapters.swap_until(end, client, &tally, seed).await }
    });
    for number in 0..options.streams {
        let caller = Caller {
            number,
            client: server.client().await?,
            references: references.clone(),
            adapters: adapters.clone(),
            tally: tally.clone(),
            seed: options.seed,
        };
        tasks.spawn(caller.ask_until(end));
    }
    tokio::time::sleep(options.duration / 4).await;
    let quarter = server.status().await?;
    while let Some(joined) = tasks.join_next().await {
        joined.context("a caller panicked")??;
    }
    server.wait_idle(IDLE_LIMIT).await?;
    let last = server.status().await?;
    let loaded = server.client().await?.adapters(CALL_LIMIT).await?;
    let memory = Memory {
        loaded: started.resident_bytes,
        start: start.resident_bytes,
        quarter: quarter.resident_bytes,
        end: last.resident_bytes,
        meant: (KV_MIB << 20) + loaded.iter().map(|adapter| adapter.bytes).sum::<u64>(),
    };
    summary::judge(&tally, &memory, &last)
}

fn options() -> anyhow::Result<Options> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sidecar, model, minutes, rest @ ..] = arguments.as_slice() else {
        bail!("usage: soak SIDECAR MODEL.gguf MINUTES [STREAMS] [SEED]");
    };
    let minutes: f64 = minutes.parse().context("MINUTES is no number")?;
    let streams = rest.first().map(|text| text.parse()).transpose();
    let seed = rest.get(1).map(|text| text.parse()).transpose();
    let options = Options {
        sidecar: sidecar.into(),
        model: model.into(),
        duration: Duration::from_secs_f64(minutes.clamp(0.1, 1440.0) * 60.0),
        streams: streams
            .context("STREAMS is no number")?
            .unwrap_or(STREAMS_DEFAULT),
        seed: seed.context("SEED is no number")?.unwrap_or(1),
    };
    println!(
        "soak: {} streams for {:.1} minutes, seed {}",
        options.streams,
        options.duration.as_secs_f64() / 60.0,
        options.seed
    );
    Ok(options)
}
