//! Prints what this machine can do at most: the rooflines of `docs/benchmarks.md`.

use kernels::{Level, Pool, int8_rate, read_bandwidth};

const RUNS: usize = 5;

fn main() -> anyhow::Result<()> {
    let (pool, level) = (Pool::global(), Level::best());
    let bandwidth = read_bandwidth(pool, level, RUNS)?;
    println!("instructions: {level:?}");
    println!("threads: {}", pool.threads());
    println!("read from memory: {:.1} GB/s", bandwidth / 1e9);
    println!(
        "int8 products: {:.0} GOP/s",
        int8_rate(pool, level, RUNS) / 1e9
    );
    Ok(())
}
