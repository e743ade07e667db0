//! What happened, and whether it was right.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use proto::client::ClientError;
use proto::wire::GetStatusResponse;

/// How much larger the idle process may be at the end than before: allocators do not give every page back.
pub const GROWTH_MAX: u64 = 16 << 20;
/// Of what is wrong, this much is kept and printed.
const EXAMPLES_MAX: usize = 10;

/// Counts of all callers together.
#[derive(Default)]
pub struct Tally {
    pub asked: AtomicU64,
    pub complete: AtomicU64,
    /// Complete or cut answers that were compared with a reference.
    pub compared: AtomicU64,
    /// Complete answers under a schema.
    pub json: AtomicU64,
    pub unfinished_json: AtomicU64,
    /// Streams that the caller left early.
    pub left: AtomicU64,
    pub deadlines: AtomicU64,
    pub refusals: AtomicU64,
    pub missing_adapters: AtomicU64,
    pub swaps: AtomicU64,
    /// Loads and drops that met those of another caller.
    pub swap_races: AtomicU64,
    silence_max_ms: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
    examples: Mutex<Vec<String>>,
}

/// Resident bytes of the server.
pub struct Memory {
    /// Ready, before the first request.
    pub loaded: u64,
    pub start: Idle,
    /// As the last stream ends.
    pub busy: u64,
    pub end: Idle,
    /// Of keys and values.
    pub pool: u64,
}

/// Bytes of the server while nothing is asked, after a load.
pub struct Idle {
    pub resident: u64,
    /// Those of the adapters that are loaded at that time.
    pub adapters: u64,
}

impl Idle {
    fn without_adapters(&self) -> u64 {
        self.resident.saturating_sub(self.adapters)
    }
}

impl Tally {
    /// An answer is not what it must be. The texts are the driver's own.
    pub fn wrong(&self, what: String) {
        self.wrong.fetch_add(1, Relaxed);
        self.keep(format!("wrong: {what}"));
    }

    /// A call failed, and the driver did not cause it.
    pub fn fail(&self, what: &str, error: &ClientError) {
        self.failed.fetch_add(1, Relaxed);
        self.keep(format!("failed: {what}: {error:?}"));
    }

    pub fn silence(&self, silence: Duration) {
        let milliseconds = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.silence_max_ms.fetch_max(milliseconds, Relaxed);
    }

    fn keep(&self, example: String) {
        let mut examples = self.lock();
        if examples.len() < EXAMPLES_MAX {
            examples.push(example);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.examples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fails when an answer or a call went wrong.
pub fn ensure_right(tally: &Tally) -> anyhow::Result<()> {
    let (wrong, failed) = (tally.wrong.load(Relaxed), tally.failed.load(Relaxed));
    let examples = tally.lock().join("\n");
    ensure!(wrong == 0, "{wrong} answers are wrong\n{examples}");
    ensure!(failed == 0, "{failed} calls failed or stalled\n{examples}");
    Ok(())
}

/// Prints the figures; fails when something that must hold does not.
pub fn judge(tally: &Tally, memory: &Memory, status: &GetStatusResponse) -> anyhow::Result<()> {
    print(tally, memory, status);
    ensure_right(tally)?;
    ensure!(
        status.kv_blocks_used == 0,
        "{} blocks are held",
        status.kv_blocks_used
    );
    let (start, end) = (&memory.start, &memory.end);
    let growth = end
        .without_adapters()
        .saturating_sub(start.without_adapters());
    ensure!(growth <= GROWTH_MAX, "the server grew by {growth} bytes");
    // A run in which one kind of event is missing proves nothing about it.
    for (name, count) in [
        ("compared answers", &tally.compared),
        ("answers under a schema", &tally.json),
        ("cancels", &tally.left),
        ("deadlines", &tally.deadlines),
        ("adapter swaps", &tally.swaps),
    ] {
        ensure!(count.load(Relaxed) > 0, "there were no {name}");
    }
    println!("soak: passed");
    Ok(())
}

fn print(tally: &Tally, memory: &Memory, status: &GetStatusResponse) {
    for (name, count) in [
        ("requests", &tally.asked),
        ("complete answers", &tally.complete),
        ("compared with the reference", &tally.compared),
        ("complete under a schema", &tally.json),
        (
            "schema not completed within tokens_max",
            &tally.unfinished_json,
        ),
        ("left by the caller", &tally.left),
        ("deadline passed", &tally.deadlines),
        ("refused, server busy", &tally.refusals),
        ("adapter missing and sent again", &tally.missing_adapters),
        ("adapter swaps", &tally.swaps),
        ("adapter swaps that met another", &tally.swap_races),
        ("longest silence of a stream, ms", &tally.silence_max_ms),
        ("wrong answers", &tally.wrong),
        ("failed calls", &tally.failed),
    ] {
        println!("{name}: {}", count.load(Relaxed));
    }
    println!(
        "blocks held at the end: {} of {}, {} cached; prefix hits {} tokens; preempted {}; steps {}",
        status.kv_blocks_used,
        status.kv_blocks_total,
        status.kv_blocks_cached,
        status.prefix_hit_tokens,
        status.preempted_sequences,
        status.generation_steps
    );
    let mib = |bytes: u64| bytes >> 20;
    let kept = memory.loaded + memory.pool;
    println!(
        "resident MiB: loaded {}, idle after the first load {}, at the last stream {}, idle at the end {}; of \
         these {} are adapters, {} the pool of keys and values, {} neither that nor there when loaded",
        mib(memory.loaded),
        mib(memory.start.resident),
        mib(memory.busy),
        mib(memory.end.resident),
        mib(memory.end.adapters),
        mib(memory.pool),
        mib(memory.end.without_adapters().saturating_sub(kept))
    );
}
