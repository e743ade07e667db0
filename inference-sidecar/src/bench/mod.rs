//! `inference-sidecar bench`: drives a running server over gRPC and says how fast it answers.
//!
//! - [`BenchArguments`]: what is measured
//! - `prompts`: what is asked; `load`: asks it; `report`: says what came out

mod arguments;
mod load;
mod prompts;
mod report;

pub use arguments::BenchArguments;

use report::Report;

/// Runs the measurement and prints its result, or the prompts alone; fails when a request failed.
pub async fn run(arguments: BenchArguments) -> anyhow::Result<()> {
    if arguments.print_prompts {
        let prompts = (0..arguments.requests).map(|index| arguments.prompt(index));
        println!("{}", serde_json::to_string(&prompts.collect::<Vec<_>>())?);
        return Ok(());
    }
    let socket = arguments.socket()?;
    let outcome = load::drive(&arguments, &socket).await?;
    let failures = outcome.failures.clone();
    let report = Report::new(&arguments, outcome);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    match failures.first() {
        None => Ok(()),
        Some(first) => anyhow::bail!(
            "{} of the requests failed, the first: {first}",
            failures.len()
        ),
    }
}

#[cfg(test)]
#[path = "bench_tests.rs"]
mod tests;
