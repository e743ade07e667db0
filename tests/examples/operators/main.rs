//! Measures semantic operators: rows that are asked about one by one, in the batches of their query, and as an array;
//! and cascades beside the model alone. On sentences of e-mails that people have labelled (enron_intent) and of
//! dialogues (persuasion_for_good).
//!
//! `cargo run -p tests --example operators -- [rows] [cascades]`, with the environment of `make test`;
//! `make bench-operators` sets it. SALESAI_BENCH_DOCUMENTS (200), SALESAI_BENCH_CASCADE (10000).

mod cascades;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Settings};
use tests::config::shared_data;
use tests::measure::{percentile, setting};
use tests::session::Session;
use tests::sidecar::Sidecar;

const ROUNDS: usize = 5;
const LABELS: &str = "array['asks for something or tells of a date', 'other']";

fn main() {
    let sections: Vec<String> = std::env::args().skip(1).collect();
    let measurements: [(&str, fn()); 2] = [("rows", rows), ("cascades", cascades::measure)];
    for (name, measure) in measurements {
        if sections.is_empty() || sections.iter().any(|section| section == name) {
            println!("\n## {name}\n");
            measure();
        }
    }
}

fn rows() {
    let Some(folder) = shared_data("operators", "enron_intent") else {
        return;
    };
    let count = setting("SALESAI_BENCH_DOCUMENTS", 200) as usize;
    let sentences = labelled(&folder);
    let step = (sentences.len() / count).max(1);
    let (labels, documents): (Vec<bool>, Vec<String>) =
        sentences.into_iter().step_by(step).take(count).unzip();
    let sidecar = Sidecar::start();
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let mut session = cluster.connect();
    session.run("set salesai.timeout_ms = 600000");
    // Texts take longer than choices.
    let few = documents[..documents.len() / 10].to_vec();
    println!(
        "| operator | row by row, ms a document | the query's batches | times as fast | an array | times as fast |
|---|---|---|---|---|---|"
    );
    for (name, documents, each, together) in [
        (
            "classify",
            &documents,
            format!("select salesai.classify(d, {LABELS}) from unnest($1::text[]) d"),
            format!("select salesai.classify($1::text[], {LABELS})"),
        ),
        (
            "is_true",
            &documents,
            "select salesai.is_true('The writer asks for something.', d) from unnest($1::text[]) d".to_owned(),
            "select salesai.is_true('The writer asks for something.', $1::text[])".to_owned(),
        ),
        (
            "extract",
            &few,
            "select salesai.extract(d, array['who', 'when', 'amount: number']) from unnest($1::text[]) d".to_owned(),
            "select salesai.extract($1::text[], array['who', 'when', 'amount: number'])".to_owned(),
        ),
    ] {
        compare(&mut session, name, documents, &each, &together);
    }
    agreement(&mut session, &documents, &labels);
}

/// Sentences of e-mails, and whether people say that they ask for something.
fn labelled(folder: &Path) -> Vec<(bool, String)> {
    let lines = fs::read_to_string(folder.join("sentences.tsv")).expect("read the sentences");
    lines
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t'))
        .map(|(label, text)| (label == "1", text.to_owned()))
        .collect()
}

fn compare(session: &mut Session, name: &str, documents: &Vec<String>, each: &str, together: &str) {
    let mut times = [const { Vec::new() }; 3];
    let forms = [("off", each), ("on", each), ("on", together)];
    // Once, so that all find the model and the beginning of the prompt in memory.
    for round in 0..=ROUNDS {
        for ((is_batched, sql), times) in forms.into_iter().zip(&mut times) {
            session.run(&format!("set salesai.batch_operators = {is_batched}"));
            let start = Instant::now();
            session.rows(sql, &[documents]);
            if round > 0 {
                times.push(start.elapsed() / u32::try_from(documents.len()).unwrap_or(1));
            }
        }
    }
    let [each, batched, together] =
        times.map(|mut times| [0.0, 0.5, 1.0].map(|share| percentile(&mut times, share)));
    let shown = |times: [Duration; 3]| {
        let [least, median, most] = times.map(|time| time.as_secs_f64() * 1000.0);
        format!("{median:.1} ({least:.1} to {most:.1})")
    };
    println!(
        "| {name} | {} | {} | {:.2} | {} | {:.2} |",
        shown(each),
        shown(batched),
        each[1].as_secs_f64() / batched[1].as_secs_f64(),
        shown(together),
        each[1].as_secs_f64() / together[1].as_secs_f64()
    );
}

/// How often the model says what people said.
fn agreement(session: &mut Session, documents: &Vec<String>, labels: &[bool]) {
    let found: Vec<Option<String>> = session.one(
        &format!("select salesai.classify($1::text[], {LABELS})"),
        &[documents],
    );
    let told: Vec<(bool, bool)> = found
        .iter()
        .zip(labels)
        .filter_map(|(found, label)| Some((found.as_deref()?.starts_with("asks"), *label)))
        .collect();
    let agree = told.iter().filter(|(found, label)| found == label).count();
    let positive = told.iter().filter(|(_, label)| *label).count();
    println!(
        "\nclassify agrees with people on {agree} of {} ({positive} of them positive), {} have no label",
        told.len(),
        found.len() - told.len()
    );
}
