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
//! - the idle server is no larger than [`summary::GROWTH_MAX`] more than before, when the same load had used
//!   every part of it for [`WARM_UP`]

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
use proto::wire::GetStatusResponse;
use tokio::task::JoinSet;

use adapters::AdapterPool;
use callers::Caller;
use reference::References;
use server::{CALL_LIMIT, Server};
use summary::{Idle, Memory, Tally};

/// The longest silence of an open stream that is no stall: with 64 streams on two cores, a step with
/// prompts of many takes seconds.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// After so long under load, all that stays on purpose is there.
const WARM_UP: Duration = Duration::from_secs(60);
/// How long an allocator may keep what was given back.
const SETTLE: Duration = Duration::from_secs(20);
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
    let loaded = server.status().await?.resident_bytes;
    let adapters = Arc::new(AdapterPool::new(options.seed));
    let references = Arc::new(References::take(server, &adapters).await?);
    println!("references: {} answers taken alone", references.count());
    let load = |seed, duration| Load {
        options,
        server,
        references: references.clone(),
        adapters: adapters.clone(),
        tally: Arc::default(),
        seed,
        duration,
    };
    // Choices of its own, so that the second load is no repetition.
    let warm_up = load(!options.seed, WARM_UP.min(options.duration));
    warm_up.run().await?;
    summary::ensure_right(&warm_up.tally)?;
    let (start, _) = settle(server).await?;
    let main = load(options.seed, options.duration);
    main.run().await?;
    let busy = server.status().await?.resident_bytes;
    let (end, status) = settle(server).await?;
    let memory = Memory {
        loaded,
        start,
        busy,
        end,
        pool: KV_MIB << 20,
    };
    summary::judge(&main.tally, &memory, &status)
}

/// Size and status of the server once it is idle and has settled.
async fn settle(server: &Server) -> anyhow::Result<(Idle, GetStatusResponse)> {
    server.wait_idle(IDLE_LIMIT).await?;
    tokio::time::sleep(SETTLE).await;
    let status = server.status().await?;
    let adapters = server.client().await?.adapters(CALL_LIMIT).await?;
    let idle = Idle {
        resident: status.resident_bytes,
        adapters: adapters.iter().map(|adapter| adapter.bytes).sum(),
    };
    Ok((idle, status))
}

/// The callers and what they share.
struct Load<'a> {
    options: &'a Options,
    server: &'a Server,
    references: Arc<References>,
    adapters: Arc<AdapterPool>,
    tally: Arc<Tally>,
    seed: u64,
    duration: Duration,
}

impl Load<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        let end = Instant::now() + self.duration;
        let seed = self.seed;
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let client = self.server.client().await?;
            let (adapters, tally) = (self.adapters.clone(), self.tally.clone());
            async move { adapters.swap_until(end, client, &tally, seed).await }
        });
        for number in 0..self.options.streams {
            let caller = Caller {
                number,
                client: self.server.client().await?,
                references: self.references.clone(),
                adapters: self.adapters.clone(),
                tally: self.tally.clone(),
                seed,
            };
            tasks.spawn(caller.ask_until(end));
        }
        while let Some(joined) = tasks.join_next().await {
            joined.context("a caller panicked")??;
        }
        Ok(())
    }
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
