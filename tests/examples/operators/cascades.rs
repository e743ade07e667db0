//! Cascades beside the model alone: how much faster, and how often the promise is kept.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use tests::cluster::{Cluster, Settings};
use tests::config::shared_data;
use tests::measure::setting;
use tests::session::Session;
use tests::sidecar::Sidecar;

const SEEDS: i64 = 20;
/// Timed cascades, each after a timed pass of the model alone: the machine's pace changes.
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
    let alone = format!("select salesai.classify($1::text[], {labels})");
    session.run("set salesai.result_cache = off");
    let mut oracle: Vec<Option<String>> = Vec::new();
    let (mut model, mut cascades, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..TIMED {
        let start = Instant::now();
        oracle = session.one(&alone, &[documents]);
        let took = start.elapsed().as_secs_f64();
        let start = Instant::now();
        cascade(session, documents, labels, seed);
        let cascade_took = start.elapsed().as_secs_f64();
        model.push(took);
        cascades.push(cascade_took);
        gains.push(took / cascade_took);
    }
    // What the model says once is kept for the other seeds, which are not timed.
    session.run("set salesai.result_cache = on");
    let (mut agreements, mut shares) = (Vec::new(), Vec::new());
    for seed in 0..SEEDS {
        let (found, share) = cascade(session, documents, labels, seed);
        let agree = found
            .iter()
            .zip(&oracle)
            .filter(|(found, oracle)| found == oracle);
        agreements.push(agree.count() as f64 / documents.len() as f64);
        shares.push(f64::from(share));
    }
    session.run("set salesai.result_cache = off");
    let kept = agreements
        .iter()
        .filter(|&&agreement| agreement >= TARGET)
        .count();
    println!(
        "| {labels} | {} | {} | {} | {} | {:.4} to {:.4} | {kept} of {SEEDS} |",
        spread(&mut model, 1),
        spread(&mut cascades, 1),
        spread(&mut gains, 2),
        spread(&mut shares, 2),
        agreements.iter().copied().fold(f64::INFINITY, f64::min),
        agreements.iter().copied().fold(0.0, f64::max),
    );
}

/// The median, with the least and the most.
fn spread(values: &mut [f64], digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (median, least, most) = (
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    );
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
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
