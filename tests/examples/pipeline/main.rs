//! Measures the pipeline as the documents state it, on a cluster and a sidecar of its own.
//!
//! `cargo run -p tests --example pipeline -- SECTION...`, with the environment of `make test`; `make bench-pipeline`
//! sets it. Sections: backfill, freshness, queue, kills, churn, bulk.

mod backfill;
mod bulk;
mod churn;
mod corpus;
mod freshness;
mod kills;
mod queue;

use tests::cluster::{Cluster, Settings};
use tests::sidecar::Sidecar;
use tests::world::World;

fn main() {
    let sections: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted =
        |name: &str| sections.is_empty() || sections.iter().any(|section| section == name);
    let measurements: [(&str, fn()); 6] = [
        ("backfill", backfill::measure),
        ("freshness", freshness::measure),
        ("queue", queue::measure),
        ("kills", kills::measure),
        ("churn", churn::measure),
        ("bulk", bulk::measure),
    ];
    for (name, measure) in measurements {
        if is_wanted(name) {
            println!("\n## {name}\n");
            measure();
        }
    }
}

/// A cluster whose commits survive a crash, as customers run it.
fn world() -> World {
    let sidecar = Sidecar::start();
    let settings = Settings {
        durable: true,
        // Texts, vectors and indexes of 40,000 chunks are some 200 MB.
        shared_buffers: "1GB",
        ..Settings::new(sidecar.socket())
    };
    World {
        cluster: Cluster::start(&settings),
        sidecar,
    }
}
