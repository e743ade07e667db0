//! Cascades beside the model alone: how much faster, and how often the promise is kept.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Settings};
use tests::config::shared_data;
use tests::measure::{percentile, setting};
use tests::session::Session;
use tests::sidecar::Sidecar;

const SEEDS: i64 = 20;
/// Timed samples of the cascade, each beside nothing else.
const TIMED: i64 = 3;
const TARGET: f64 = 0.95;
/// What is asked: labels that the demo's model tells apart in different ways.
const LABELS: [&str; 2] = [
    "array['positive', 'neutral', 'negative']",
    "array['a request', 'a promise', 'small talk', 'a fact']",
];

pub fn measure() {
    let (Some(mails), Some(dialogues)) = (
        shared_data("cascades", "enron_intent"),
        shared_data("cascades", "persuasion_for_good"),
    ) else {
        return;
    };
    let count = setting("SALESAI_BENCH_CASCADE", 10_000) as usize;
    let mut seen = HashSet::new();
    let documents = super::labelled(&mails).into_iter().map(|(_, text)| text);
    let documents: Vec<String> = documents
        .chain(utterances(&dialogues))
        .filter(|text| !text.trim().is_empty() && seen.insert(text.clone()))
        .take(count)
        .collect();
    let sidecar = Sidecar::start();
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let mut session = cluster.connect();
    session.run("set salesai.timeout_ms = 7200000");
    println!(
        "{} documents, target {TARGET} at {TARGET} confidence\n\n| labels | the model alone, s | cascade, s | times as fast | judged by the model | agreement, least to most of {SEEDS} seeds | kept |\n|---|---|---|---|---|---|---|",
        documents.len()
    );
    for labels in LABELS {
        compare(&mut session, &documents, labels);
    }
}

fn compare(session: &mut Session, documents: &Vec<String>, labels: &str) {
    // What the model says is kept for the seeds below; the timed cascades do not see it.
    session.run("set salesai.result_cache = on");
    let start = Instant::now();
    let oracle: Vec<Option<String>> = session.one(
        &format!("select salesai.classify($1::text[], {labels})"),
        &[documents],
    );
    let alone = start.elapsed();
    session.run("set salesai.result_cache = off");
    let mut times: Vec<Duration> = (0..TIMED)
        .map(|seed| {
            let start = Instant::now();
            cascade(session, documents, labels, seed);
            start.elapsed()
        })
        .collect();
    session.run("set salesai.result_cache = on");
    let (mut agreements, mut shares) = (Vec::new(), Vec::new());
    for seed in 0..SEEDS {
        let (found, share) = cascade(session, documents, labels, seed);
        let agree = found
            .iter()
            .zip(&oracle)
            .filter(|(found, oracle)| found == oracle);
        agreements.push(agree.count() as f64 / documents.len() as f64);
        shares.push(share);
    }
    session.run("set salesai.result_cache = off");
    agreements.sort_by(f64::total_cmp);
    shares.sort_by(f32::total_cmp);
    let kept = agreements
        .iter()
        .filter(|&&agreement| agreement >= TARGET)
        .count();
    let [least, median, most] =
        [0.0, 0.5, 1.0].map(|share| percentile(&mut times, share).as_secs_f64());
    println!(
        "| {labels} | {:.1} | {median:.1} ({least:.1} to {most:.1}) | {:.2} | {:.2} ({:.2} to {:.2}) | {:.4} to {:.4} | {kept} of {SEEDS} |",
        alone.as_secs_f64(),
        alone.as_secs_f64() / median,
        shares[shares.len() / 2],
        shares[0],
        shares[shares.len() - 1],
        agreements[0],
        agreements[agreements.len() - 1]
    );
}

/// Labels, and the share that the model judged.
fn cascade(
    session: &mut Session,
    documents: &Vec<String>,
    labels: &str,
    seed: i64,
) -> (Vec<Option<String>>, f32) {
    let row = session.row(
        &format!(
            "select array_agg(label order by number), max(model_share)
             from salesai.classify_cascade($1::text[], {labels}, $2, $2, $2, seed => $3)"
        ),
        &[documents, &TARGET, &seed],
    );
    (row.get(0), row.get(1))
}

/// What people said to each other: the last column.
fn utterances(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("full_dialog.csv")).expect("read the dialogues");
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| line.splitn(4, ',').nth(3))
        .map(|unit| unit.trim_matches('"').replace("\"\"", "\""))
        .collect()
}
