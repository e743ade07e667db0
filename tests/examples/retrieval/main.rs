//! Measures how well search finds, on data that nobody here made, beside plain BM25 of the same chunks.
//!
//! `cargo run -p tests --example retrieval -- SECTION...`, with the environment of `make test`; `make bench-search`
//! sets it. Sections: scifact, qmsum,
//! speed (SALESAI_BENCH_CHUNKS).

mod by_hand;
mod qmsum;
mod scifact;
mod speed;
mod statistics;

use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::World;

/// Search as it is asked, by name; plain BM25 is the reference.
const SYSTEMS: [(&str, &str); 6] = [
    ("BM25", "mode => 'lexical', understand => false"),
    ("dense", "mode => 'dense', understand => false"),
    ("hybrid, fused by rank", "fusion => 'rank'"),
    ("hybrid, fused by score (default)", "fusion => 'score'"),
    ("the same, understand => false", "understand => false"),
    ("the same, around => 0.5", "around => 0.5"),
];

fn main() {
    let sections: Vec<String> = std::env::args().skip(1).collect();
    let measurements: [(&str, fn()); 3] = [
        ("scifact", scifact::measure),
        ("qmsum", qmsum::measure),
        ("speed", speed::measure),
    ];
    for (name, measure) in measurements {
        if sections.is_empty() || sections.iter().any(|section| section == name) {
            println!("\n## {name}\n");
            measure();
        }
    }
}

fn world() -> World {
    let sidecar = Sidecar::start();
    World {
        cluster: Cluster::start(&Settings {
            // All of it, for whoever is measured.
            shared_buffers: "6GB",
            ..Settings::new(sidecar.socket())
        }),
        sidecar,
    }
}

/// Waits until all is indexed.
fn wait_for_index(session: &mut Session) {
    wait_until("all is indexed", Duration::from_secs(3600), || {
        session.one::<bool>(
            "select not exists (select from salesai.job where state <> 'failed')
                and (select count(*) < 256 from salesai.lexical_delta)
                and (select count(*) < 256 from salesai.embedding_delta)",
            &[],
        )
    });
    session.run("analyze");
}
